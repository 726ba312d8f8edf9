"""Answers that are told to count no longer."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.runtime.caching import EVER, Asking, ask, cached, message, patient, secrets
from tests.runtime.callers import ADA, AUTH, WEB
from tests.services.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)


def test_a_purge_holds_on_every_pod(embed: Any, configuration: Any, redis: RedisServer) -> None:
    config = cached(configuration, name="purged", cache={"tags": ["catalog", "eu"]})
    agents = [embed(config, secrets=secrets(redis)) for _ in range(2)]
    order, other = f"order 7: {message()}", f"other: {message()}"

    def told() -> list[str]:
        return [ask(agents[1], said).headers["x-cache"] for said in (order, other)]

    def purge(**what: str) -> httpx2.Response:
        return httpx2.delete(f"{agents[0].url}/v1/cache", params=what, timeout=EVER)

    assert (told(), told()) == (["MISS", "MISS"], ["HIT", "HIT"])
    assert purge(prefix="order 7").json() == {"purged": "prefix"}
    assert (told(), told()) == (["MISS", "HIT"], ["HIT", "HIT"])
    assert purge(tag="catalog").json() == {"purged": "tag"}
    assert (told(), told()) == (["MISS", "MISS"], ["HIT", "HIT"])
    assert purge().json() == {"purged": "all"}
    assert (told(), told()) == (["MISS", "MISS"], ["HIT", "HIT"])
    for wrong in ({"tag": "catalogue"}, {"tags": "catalog"}, {"prefix": ""}, {"tag": "eu", "prefix": "o"}):
        refused = purge(**wrong)
        assert refused.status_code == 422, wrong
        assert refused.headers["content-type"] == "application/problem+json"
    assert told() == ["HIT", "HIT"]


def test_a_run_that_is_under_way_during_a_purge_does_not_bring_the_old_answer_back(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any, wait_until: Any
) -> None:
    config = cached(configuration, name="under-way", model={"name": "x"})
    pods = [embed(config, model="as-asked", secrets=secrets(redis)) for _ in range(2)]
    before = provider.state()["requests"]
    said = f"slow-3000 {message()}"
    asking = Asking()
    asking.start(pods[0], said)
    wait_until(lambda: provider.state()["requests"] == before + 1, what="the leader's request")
    assert httpx2.delete(f"{pods[1].url}/v1/cache", params={"prefix": said}, timeout=EVER).status_code == 200
    assert ask(pods[1], said).headers["x-cache"] == "MISS"
    asking.finish()
    assert provider.state()["requests"] == before + 2
    assert ask(pods[0], said).headers["x-cache"] == "HIT"


def test_who_may_not_ask_may_not_purge_and_without_a_cache_there_is_nothing_to_purge(
    embed: Any, configuration: Any, redis: RedisServer
) -> None:
    guarded = embed(cached(configuration, auth=AUTH), secrets=secrets(redis))
    assert httpx2.delete(f"{guarded.url}/v1/cache").status_code == 401
    assert httpx2.delete(f"{guarded.url}/v1/cache", headers=ADA).status_code == 200
    plain = embed(configuration())
    assert httpx2.delete(f"{plain.url}/v1/cache").status_code == 404
    answer = ask(plain, "hello")
    assert "x-cache" not in answer.headers
    assert "cache" not in answer.json()


def test_the_command_line_purges(embed: Any, configuration: Any, redis: RedisServer, capsys: Any) -> None:
    from agentservice_cli.main import run

    agent = embed(cached(configuration, name="commanded", auth=AUTH), secrets=secrets(redis))
    said = message()

    def told() -> str:
        return ask(agent, said, **ADA).headers["x-cache"]

    assert (told(), told()) == ("MISS", "HIT")
    assert run(["cache", "purge", agent.url, "--prefix", said, "--token", WEB]) == 0
    assert capsys.readouterr().out == "purged\n"
    assert (told(), told()) == ("MISS", "HIT")
    assert run(["cache", "purge", agent.url, "--all"]) == 1
    assert "--token" in capsys.readouterr().err
    assert told() == "HIT"
