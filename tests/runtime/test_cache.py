"""The cache as callers see it: real processes, a real Redis, and the provider's own count of requests as the truth."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from tests.runtime.caching import EVER, PATIENT, Asking, ask, cached, message, patient, secrets
from tests.runtime.callers import ADA, AUTH, BATCH
from tests.services.redis_server import RedisServer

PODS = 4
TOOL = "def look(x: int) -> str:\n    '''Look.'''\n    return f'seen {x}'\n"
OUTCOMES = ("hit", "shared", "miss", "bypass", "unavailable")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch)


@pytest.fixture
def own_redis(installed: None) -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def outcomes(agents: list[Any]) -> dict[str, float]:
    name = "agentservice_cache_requests_total"
    return {outcome: sum(agent.metric(name, outcome=outcome) for agent in agents) for outcome in OUTCOMES}


@pytest.fixture(scope="module")
def pods(launch_shared: Any, configuration: Any, redis: RedisServer) -> list[Any]:
    return [
        launch_shared(
            cached(configuration, model={"name": "x"}), model="as-asked", secrets=secrets(redis), environ=PATIENT
        )
        for _ in range(PODS)
    ]


def test_64_equal_requests_on_four_pods_are_one_request_to_the_model(pods: list[Any], provider: Any) -> None:
    before, said = provider.state()["requests"], f"slow-500 {message()}"
    counted = outcomes(pods)
    with ThreadPoolExecutor(64) as callers:
        answers = list(callers.map(lambda n: ask(pods[n % PODS], said), range(64)))
    assert [a.status_code for a in answers] == [200] * 64
    assert len({a.json()["output"] for a in answers}) == 1
    assert provider.state()["requests"] - before == 1
    told = [(a.headers["x-cache"], a.json()["cache"]) for a in answers]
    assert sorted(told) == [("HIT", "hit")] * 63 + [("MISS", "miss")]
    assert ask(pods[0], said).headers["x-cache"] == "HIT"
    assert len({a.json()["run_id"] for a in answers}) == 64
    told = {outcome: number - counted[outcome] for outcome, number in outcomes(pods).items()}
    assert (told["miss"], told["hit"] + told["shared"], told["unavailable"]) == (1, 64, 0)


def test_a_hit_uses_nothing_and_says_so(pods: list[Any], provider: Any) -> None:
    said = f"echo {message()}"
    first, second = ask(pods[0], said).json(), ask(pods[1], said).json()
    assert first["usage"]["total_tokens"] == 28
    assert second["output"] == first["output"]
    assert second["model"] == first["model"]
    assert set(second["usage"].values()) == {0}
    assert second["cost_usd"] == "0"
    (line,) = [line for line in pods[1].lines("run") if line["run_id"] == second["run_id"]]
    assert (line["cache"], line["requests"], line["input_tokens"]) == ("hit", 0, 0)
    assert pods[1].metric("agentservice_cache_saved_tokens_total") >= 28


def test_whatever_is_part_of_the_key_and_differs_makes_another_answer(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    said = message()
    tools = {"tools": ["mine:look"]}

    def agent(*, command: str = "echo", **parts: Any) -> Any:
        parts = {"model": {"name": "x"}, "auth": AUTH, "agent": {"instructions": "Be kind.", **tools}, **parts}
        code = parts.pop("code", {"mine.py": TOOL})
        config = cached(configuration, **{"cache": {"scope": "Caller", "cacheableTools": ["look"]}, **parts})
        return embed(config, model=command, secrets=secrets(redis), code=code)

    def is_hit(agent: Any, said: str = said, **headers: str) -> bool:
        before = provider.state()["requests"]
        answer = ask(agent, said, **{**ADA, **headers})
        assert answer.status_code == 200
        is_hit = answer.headers["x-cache"] == "HIT"
        assert is_hit == (provider.state()["requests"] == before)
        return is_hit

    base = agent()
    assert not is_hit(base)
    assert is_hit(base)
    assert is_hit(agent())  # another process, the same in everything
    assert not is_hit(base, said=f"{said} ")
    assert not is_hit(base, **{"x-caller-id": "bob"})
    assert not is_hit(base, authorization=f"Bearer {BATCH}")
    flips: dict[str, dict[str, Any]] = {
        "model": {"command": "echo-2"},
        "instructions": {"agent": {"instructions": "Be brief.", **tools}},
        "settings": {"model": {"name": "x", "settings": {"temperature": "0.5"}}},
        "tool's schema": {"code": {"mine.py": TOOL.replace("x: int", "x: int, y: int = 0")}},
        "tool's description": {"code": {"mine.py": TOOL.replace("Look.", "Look well.")}},
        "tools": {"agent": {"instructions": "Be kind."}},
        "scope": {"cache": {"scope": "Shared", "cacheableTools": ["look"]}},
    }
    for name, parts in flips.items():
        other = agent(**parts)
        assert not is_hit(other), name
        assert is_hit(other), name
    assert is_hit(base)


def test_services_that_share_a_redis_never_see_each_others_answers(
    embed: Any, configuration: Any, redis: RedisServer
) -> None:
    said = message()

    def agent(uid: str = "uid-1", **parts: Any) -> Any:
        return embed(cached(configuration, cache={"uid": uid}, **parts), secrets=secrets(redis))

    first = agent()
    assert ask(first, said).headers["x-cache"] == "MISS"
    for other in (agent(name="other"), agent(namespace="team-b"), agent(uid="uid-2")):
        assert ask(other, said).headers["x-cache"] == "MISS"
        assert httpx2.delete(f"{other.url}/v1/cache").status_code == 200
    assert ask(agent(), said).headers["x-cache"] == "HIT"


def test_nothing_of_a_caller_or_a_message_stands_in_a_key_of_redis(
    embed: Any, configuration: Any, own_redis: RedisServer
) -> None:
    config = cached(configuration, auth=AUTH, cache={"scope": "Caller", "uid": "uid-1", "tags": ["catalog"]})
    agent = embed(config, secrets=secrets(own_redis))
    assert ask(agent, "canary-prompt", **ADA).status_code == 200
    for what in ({"prefix": "canary-prompt"}, {"tag": "catalog"}):
        assert httpx2.delete(f"{agent.url}/v1/cache", params=what, headers=ADA).status_code == 200
    keys = [line for line in own_redis.command("KEYS", "*").splitlines() if not line.startswith(("*", "$"))]
    assert keys
    assert all(key.startswith("agentservice:cache:{team-a/support/uid-1}:") for key in keys)
    list_of_purges = own_redis.command("HGETALL", "agentservice:cache:{team-a/support/uid-1}:purges")
    for told in (*keys, list_of_purges, agent.client.get("/metrics").text):
        assert "canary" not in told
        assert "ada" not in told


def test_a_caller_who_is_not_known_is_not_cached_under_scope_caller(
    embed: Any, configuration: Any, redis: RedisServer
) -> None:
    said = message()
    agent = embed(cached(configuration, auth=AUTH, cache={"scope": "Caller"}), secrets=secrets(redis))
    anonymous = {"authorization": ADA["authorization"]}
    assert [ask(agent, said, **anonymous).headers["x-cache"] for _ in range(2)] == ["BYPASS"] * 2
    # names that are one and the same in logs are still two callers
    long = "u" * 300
    told = [ask(agent, said, **{**anonymous, "x-caller-id": f"{long}{n}"}).headers["x-cache"] for n in (1, 2, 1)]
    assert told == ["MISS", "MISS", "HIT"]
    nobody = embed(cached(configuration, cache={"scope": "Caller"}), secrets=secrets(redis))
    assert [ask(nobody, said).headers["x-cache"] for _ in range(2)] == ["BYPASS"] * 2
    by_token = embed(
        cached(configuration, auth={"type": "BearerToken", "tokens": AUTH["tokens"]}, cache={"scope": "Caller"}),
        secrets=secrets(redis),
    )
    assert [ask(by_token, said, **anonymous).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_who_wants_a_fresh_answer_gets_one(embed: Any, configuration: Any, redis: RedisServer) -> None:
    said = message()
    agent = embed(cached(configuration), secrets=secrets(redis))
    told = [
        ask(agent, said, **headers).headers["x-cache"]
        for headers in ({}, {"cache-control": "no-cache"}, {"cache-control": "max-age=0, no-store"}, {})
    ]
    assert told == ["MISS", "BYPASS", "BYPASS", "HIT"]


def test_a_stream_is_replayed_and_shares_its_answer_with_runs(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any, events: Any
) -> None:
    agents = [
        embed(cached(configuration, model={"name": "x"}), model="stream-4-1", secrets=secrets(redis)) for _ in range(2)
    ]
    before = provider.state()["requests"]
    said = message()

    def stream(agent: Any) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        answer = httpx2.post(f"{agent.url}/v1/stream", json={"input": said}, timeout=EVER)
        return answer.headers["x-cache"], events(answer.text)

    first, told = stream(agents[0])
    assert first == "MISS"
    second, replayed = stream(agents[1])
    assert second == "HIT"
    assert {name for name, _ in told} == {name for name, _ in replayed} == {"delta", "result"}
    assert "".join(data["text"] for name, data in replayed if name == "delta") == told[-1][1]["output"]
    assert (told[-1][1]["cache"], replayed[-1][1]["cache"]) == ("miss", "hit")
    assert replayed[-1][1]["usage"]["total_tokens"] == 0
    run = ask(agents[0], said)
    assert (run.headers["x-cache"], run.json()["output"]) == ("HIT", told[-1][1]["output"])
    assert provider.state()["requests"] - before == 1


def test_a_structured_answer_is_replayed_as_one(
    embed: Any, configuration: Any, redis: RedisServer, events: Any
) -> None:
    schema = {"type": "object", "required": ["response"], "properties": {"response": {"type": "string"}}}
    config = cached(configuration, model={"name": "x"}, agent={"instructions": "Help.", "outputSchema": schema})
    agent = embed(config, model="echo", secrets=secrets(redis))
    said = message()
    first, second = ask(agent, said), ask(agent, said)
    assert second.headers["x-cache"] == "HIT"
    assert second.json()["output"] == first.json()["output"] == {
        "response": "done", "suggested_actions": ["a", "b"], "escalated": True,
    }  # fmt: skip
    streamed = events(httpx2.post(f"{agent.url}/v1/stream", json={"input": said}, timeout=120).text)
    assert streamed[-1][1]["output"] == first.json()["output"]
    assert streamed[0][0] == "delta"


def test_errors_and_cut_streams_are_not_kept(pods: list[Any], provider: Any, events: Any) -> None:
    said = f"flaky-1-500 {message()}"
    assert [ask(pods[n], said).status_code for n in (0, 1)] == [502, 200]
    said = f"flaky-1-break {message()}"
    cut = httpx2.post(f"{pods[0].url}/v1/stream", json={"input": said}, timeout=120)
    assert events(cut.text)[-1][0] == "error"
    whole = httpx2.post(f"{pods[1].url}/v1/stream", json={"input": said}, timeout=120)
    result = events(whole.text)[-1][1]
    assert (result["cache"], result["output"]) == ("miss", "word0 word1 word2 word3 ")


def test_a_run_that_calls_a_tool_is_kept_only_if_the_tool_is_cacheable(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    agent = {"instructions": "Help.", "tools": ["mine:look"]}
    for number, (cacheable, told) in enumerate((([], ["MISS", "MISS"]), (["look"], ["MISS", "HIT"]))):
        config = cached(configuration, model={"name": "x"}, agent=agent, cache={"cacheableTools": cacheable})
        runtime = embed(config, model="tool", secrets=secrets(redis), code={"mine.py": TOOL})
        said = f"{message()} {number}"
        assert [ask(runtime, said).headers["x-cache"] for _ in range(2)] == told
        kept = runtime.metric("agentservice_cache_not_kept_total", reason="tool")
        assert kept == (0 if cacheable else 1)


def test_an_answer_of_a_fallback_is_not_kept(embed: Any, configuration: Any, redis: RedisServer, provider: Any) -> None:
    model = {"name": "x", "fallbacks": [provider.serving("echo")]}
    agent = embed(cached(configuration, model=model), model="500", secrets=secrets(redis))
    said = message()
    assert [ask(agent, said).headers["x-cache"] for _ in range(2)] == ["MISS", "MISS"]
    assert agent.metric("agentservice_cache_not_kept_total", reason="other_model") == 1


def test_a_hit_spends_no_budget_and_is_served_when_there_is_none_left(
    embed: Any, configuration: Any, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AGENTSERVICE_LEDGER", str(tmp_path / "ledger.sqlite"))
    prices = [{"model": "openai:echo", "inputPerMillionUSD": "1", "outputPerMillionUSD": "1", "source": "test"}]
    terms = {"enforcement": "Hard", "windows": [{"name": "daily", "tokens": 1_000}], "prices": prices}
    config = cached(configuration, model={"name": "x"}, budget={"ledger": "SQLite", "terms": terms})
    agent = embed(config, model="echo", secrets=secrets(redis))
    said = message()
    assert ask(agent, said).json()["cost_usd"] != "0"
    assert ask(agent, "x" * 2_000).status_code == 429
    again = ask(agent, said)
    assert (again.status_code, again.headers["x-cache"], again.json()["cost_usd"]) == (200, "HIT", "0")
    assert agent.metric("agentservice_budget_settled_tokens_total", model="openai:echo") == 28


@pytest.mark.parametrize("path", ["/v1/run", "/v1/stream"])
def test_when_the_pod_that_leads_is_killed_one_other_takes_over(
    launch: Any, pods: list[Any], configuration: Any, redis: RedisServer, provider: Any, wait_until: Any, path: str
) -> None:
    config = cached(configuration, model={"name": "x"})
    leader = launch(config, model="as-asked", secrets=secrets(redis), environ=PATIENT)
    before = provider.state()["requests"]
    said = f"flaky-1-hang {message()}"
    followers = Asking()
    with httpx2.Client() as client:
        leading = threading.Thread(target=lambda: _ignoring(client, leader, said, path))
        leading.start()
        wait_until(lambda: provider.state()["requests"] == before + 1, what="the leader's request")
        for number in range(8):
            followers.start(pods[number % PODS], said)
        leader.process.kill()
        answers = followers.finish()
        leading.join(EVER)
    assert [a.status_code for a in answers] == [200] * 8
    assert provider.state()["requests"] == before + 2
    assert sorted(a.headers["x-cache"] for a in answers) == ["HIT"] * 7 + ["MISS"]


def test_when_the_client_of_a_streaming_leader_hangs_up_one_other_takes_over(
    pods: list[Any], provider: Any, wait_until: Any, events: Any
) -> None:
    before = provider.state()["requests"]
    said = f"flaky-1-stream-100000-20 {message()}"
    followers = Asking()
    with (
        httpx2.Client(timeout=EVER) as client,
        client.stream("POST", f"{pods[0].url}/v1/stream", json={"input": said}) as leading,
    ):
        lines = leading.iter_lines()
        while not next(lines).startswith("data:"):
            pass
        for number in range(6):
            followers.start(pods[number % PODS], said, path="/v1/stream" if number % 2 else "/v1/run")
    answers = followers.finish()
    assert [a.status_code for a in answers] == [200] * 6
    assert provider.state()["requests"] == before + 2
    outputs = [a.json() if "json" in a.headers["content-type"] else events(a.text)[-1][1] for a in answers]
    assert sorted(output["cache"] for output in outputs) == ["hit"] * 5 + ["miss"]
    assert {len(output["output"]) for output in outputs} == {len(outputs[0]["output"])}
    wait_until(lambda: provider.state()["open"] == 0, what="the end of the leader's request")


def test_when_the_leading_run_is_cancelled_by_its_id_one_other_takes_over(
    pods: list[Any], provider: Any, wait_until: Any
) -> None:
    before, run_id = provider.state()["requests"], uuid.uuid4().hex
    said = f"flaky-1-hang {message()}"
    asking = Asking()
    asking.start(pods[0], said, **{"x-run-id": run_id})
    wait_until(lambda: provider.state()["requests"] == before + 1, what="the leader's request")
    for number in range(6):
        asking.start(pods[number % PODS], said)
    assert httpx2.delete(f"{pods[0].url}/v1/runs/{run_id}", timeout=EVER).status_code < 300
    answers = asking.finish()
    assert provider.state()["requests"] == before + 2
    told = sorted(a.headers.get("x-cache", str(a.status_code)) for a in answers)
    assert told[1:] == ["HIT"] * 5 + ["MISS"]
    assert int(told[0]) >= 400


def test_when_the_leader_fails_those_who_waited_do_not_queue_up(
    pods: list[Any], provider: Any, wait_until: Any
) -> None:
    said = f"flaky-1-500 {message()}"
    asking = Asking()
    for number in range(8):
        asking.start(pods[number % PODS], said)
    answers = asking.finish()
    assert sorted(a.status_code for a in answers) == [200] * 7 + [502]


def _ignoring(client: httpx2.Client, agent: Any, said: str, path: str) -> None:
    with contextlib.suppress(httpx2.TransportError):
        client.post(f"{agent.url}{path}", json={"input": said}, timeout=EVER)


@pytest.mark.parametrize("loss", ["killed", "frozen"])
def test_no_request_fails_when_redis_is_lost_in_mid_run(
    launch: Any,
    configuration: Any,
    own_redis: RedisServer,
    provider: Any,
    wait_until: Any,
    loss: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(next(iter(PATIENT)))
    agents = [
        launch(cached(configuration, model={"name": "x"}), model="as-asked", secrets=secrets(own_redis))
        for _ in range(2)
    ]
    before = provider.state()["requests"]
    said = f"slow-2000 {message()}"
    asking = Asking()
    for number in range(12):
        asking.start(agents[number % 2], said)
    wait_until(lambda: provider.state()["requests"] > before, what="the leader's request")
    if loss == "killed":
        own_redis.kill()
    else:
        os.kill(own_redis.pid, signal.SIGSTOP)
    late = [ask(agent, message()) for agent in agents for _ in range(2)]
    assert [a.status_code for a in [*asking.finish(), *late]] == [200] * 16
    assert all(agent.client.get("/ready").status_code == 200 for agent in agents)
    refused = httpx2.delete(f"{agents[0].url}/v1/cache", timeout=EVER)
    assert (refused.status_code, refused.json()["retryable"]) == (503, True)
    if loss == "killed":
        own_redis.start()
    else:
        os.kill(own_redis.pid, signal.SIGCONT)
    said = message()
    wait_until(lambda: ask(agents[0], said).headers.get("x-cache") == "HIT", what="a hit, once Redis is back")
    wait_until(lambda: ask(agents[1], said).headers["x-cache"] == "HIT", what="a hit on the other pod")
    for agent in agents:
        assert str(own_redis.port) not in agent.stdout() + agent.stderr()


def test_clients_that_speak_openai_share_the_cache(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    agent = embed(cached(configuration, model={"name": "x"}), model="echo", secrets=secrets(redis))
    said = message()
    history = [{"role": "user", "content": "I am Ada."}, {"role": "assistant", "content": "Hello Ada!"}]

    def chat(*before: dict[str, str], **more: Any) -> httpx2.Response:
        body = {"model": "support", "messages": [*before, {"role": "user", "content": said}], **more}
        answer = httpx2.post(f"{agent.url}/v1/chat/completions", json=body, timeout=EVER)
        assert answer.status_code == 200
        return answer

    before = provider.state()["requests"]
    first = ask(agent, said)
    same = chat()
    assert (same.headers["x-cache"], same.json()["usage"]["total_tokens"]) == ("HIT", 0)
    assert same.json()["choices"][0]["message"]["content"] == first.json()["output"]
    streamed = chat(stream=True)
    assert streamed.headers["x-cache"] == "HIT"
    assert first.json()["output"] in streamed.text
    for differing in (lambda: chat(*history), lambda: chat(max_tokens=100)):
        assert [differing().headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
    assert provider.state()["requests"] == before + 3


def test_what_the_cache_adds_is_documented_where_it_is_on(embed: Any, configuration: Any, redis: RedisServer) -> None:
    on, off = embed(cached(configuration), secrets=secrets(redis)), embed(configuration())
    documented, plain = (agent.client.get("/openapi.json").json() for agent in (on, off))
    assert set(documented["paths"]) - set(plain["paths"]) == {"/v1/cache"}
    assert "cache" in documented["components"]["schemas"]["Answer"]["properties"]
    assert "What the cache did" in on.client.get("/docs").text
