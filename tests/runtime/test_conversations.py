"""Conversations that are remembered, as callers see them: real runtimes, a real Redis and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.runtime.callers import ADA, AUTH, BATCH, WEB
from tests.runtime.typed_agent import INPUT, OUTPUT
from tests.services.postgres_server import PostgresServer
from tests.services.programs import at_hand
from tests.services.redis_server import RedisServer

from agentservice_runtime.memory.postgres_store import PostgresStore
from agentservice_runtime.memory.redis_store import RedisStore
from agentservice_runtime.memory.store import Busy, Store, Unavailable
from devcluster.packages import Need

PAGE = Path(__file__).resolve().parents[2] / "docs/conversations.md"
PASSWORD = "canary-store-password"
TOOL = {"mine.py": "def lookup(x: int) -> str:\n    return 'hidden result'\n"}
GATE = """
import threading
entered, opened = threading.Event(), threading.Event()
def lookup(x: int) -> str:
    entered.set()
    opened.wait(150)
    return "seen"
"""
"""A tool that holds its run until the test lets it go."""
EVER = 150
"""Seconds that a condition may take on a slow machine; nothing is asserted of how long anything takes."""
PATIENT = "AGENTSERVICE_CONVERSATIONS_ANSWER_SECONDS"
"""A machine that stands still makes a store look lost, which is what other tests are about."""
STORES = ("Redis", "Postgres")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where conversations are kept."""

    store: str
    server: RedisServer | PostgresServer

    def config(self, **settings: Any) -> dict[str, Any]:
        where = {"store": self.store, "url": {"secretKeyRef": {"name": "store", "key": "url"}}}
        return {"conversations": {**where, **settings}}

    @property
    def secrets(self) -> dict[str, str]:
        return {"store/url": self.server.url, "web/token": WEB, "batch/token": BATCH}

    def stop(self) -> None:
        if isinstance(self.server, RedisServer):
            self.server.kill()
        else:
            self.server.stop()

    def open(self, owner: str = "a/b/c") -> Store:
        kind = RedisStore if self.store == "Redis" else PostgresStore
        return kind(lambda: self.server.url, owner=owner, answer_seconds=60)


def made(kind: str) -> Place:
    at_hand(Need.REDIS if kind == "Redis" else Need.POSTGRES)
    server = RedisServer(password=PASSWORD) if kind == "Redis" else PostgresServer(password=PASSWORD)
    return Place(store=kind, server=server)


@pytest.fixture(scope="module", params=STORES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    found = made(request.param)
    with found.server:
        yield found


@pytest.fixture(params=STORES)
def own_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    found = made(request.param)
    with found.server:
        yield found


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PATIENT, "60")


@pytest.fixture(scope="module")
def agents(place: Place, embed_shared: Any, configuration: Callable[..., dict[str, Any]]) -> list[Any]:
    """Two pods of one agent that answers with what it was last told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PATIENT, "60")
        return [
            embed_shared(configuration(auth=AUTH, **place.config()), model="as-asked", secrets=place.secrets)
            for _ in range(2)
        ]


@dataclass(frozen=True, kw_only=True)
class Gated:
    """An agent whose first turn of a conversation stands still in a tool."""

    agent: Any
    gate: Any
    asking: ThreadPoolExecutor

    def begin(self, name: str) -> Future[httpx2.Response]:
        """Begin a turn and return once its model was asked."""
        answer = self.asking.submit(say, self.agent, "held", name, headers={})
        assert self.gate.entered.wait(EVER)
        return answer


def gated(embed: Any, configuration: Any, place: Place) -> Gated:
    held = {"instructions": "x", "tools": ["gate:lookup"], "limits": {"toolTimeoutSeconds": 300}}
    config = configuration(agent=held, **place.config())
    agent = embed(config, model="tool", secrets=place.secrets, code={"gate.py": GATE})
    return Gated(agent=agent, gate=sys.modules["gate"], asking=ThreadPoolExecutor(1))


def new_id() -> str:
    return f"c-{uuid.uuid4()}"


def say(agent: Any, said: Any, name: str | None, *, path: str = "/v1/run", headers: Any = ADA, **more: str) -> Any:
    body = {"input": said, **({} if name is None else {"conversation_id": name})}
    return httpx2.post(f"{agent.url}{path}", json=body, headers={**headers, **more}, timeout=EVER)


def remembered(agent: Any, name: str, *, headers: Any = ADA) -> list[tuple[str, Any]]:
    answer = httpx2.get(f"{agent.url}/v1/conversations/{name}", headers=headers, timeout=EVER)
    if answer.status_code == 404:
        return []
    assert answer.status_code == 200, answer.text
    return [(message["role"], message["content"]) for message in answer.json()["messages"]]


def heard(provider: Any) -> list[str]:
    """What the provider was last sent, without the instructions."""
    return [m["content"] for m in provider.state()["bodies"][-1]["messages"] if m["role"] != "system"]


def test_what_was_said_is_known_to_the_next_turn_on_another_pod(agents: list[Any], provider: Any, events: Any) -> None:
    name = new_id()
    first = say(agents[0], "echo my name is Ada", name).json()
    assert (first["conversation_id"], first["remembered"]) == (name, True)
    second = say(agents[1], "what is my name?", name)
    assert heard(provider) == ["echo my name is Ada", "You said: echo my name is Ada", "what is my name?"]
    streamed = events(say(agents[0], "and now?", name, path="/v1/stream").text)[-1][1]
    assert (streamed["conversation_id"], streamed["remembered"]) == (name, True)
    assert heard(provider)[-2:] == ["You said: what is my name?", "and now?"]
    assert second.status_code == 200
    said = remembered(agents[1], name)
    assert said == [
        ("user", "echo my name is Ada"),
        ("assistant", "You said: echo my name is Ada"),
        ("user", "what is my name?"),
        ("assistant", "You said: what is my name?"),
        ("user", "and now?"),
        ("assistant", "word0 word1 word2 word3 "),
    ]
    alone = say(agents[0], "echo who am I?", None).json()
    assert heard(provider) == ["echo who am I?"]
    assert "conversation_id" not in alone


def test_a_conversation_is_its_callers_alone(agents: list[Any], provider: Any) -> None:
    name = new_id()
    say(agents[0], "echo secret", name)
    others = (
        {**ADA, "x-caller-id": "bob"},
        {"authorization": f"Bearer {BATCH}", "x-caller-id": "ada"},
    )
    for other in others:
        assert remembered(agents[0], name, headers=other) == []
        gone = httpx2.delete(f"{agents[0].url}/v1/conversations/{name}", headers=other, timeout=EVER)
        assert gone.status_code == 404
        assert say(agents[1], "echo hello", name, headers=other).status_code == 200
        assert heard(provider) == ["echo hello"]
    assert len(remembered(agents[0], name)) == 2
    unknown = say(agents[0], "echo hello", name, headers={"authorization": f"Bearer {WEB}"})
    assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (422, "X-Caller-Id")
    for method in ("GET", "DELETE"):
        assert httpx2.request(method, f"{agents[0].url}/v1/conversations/{name}").status_code == 401


def test_a_conversation_that_is_deleted_is_forgotten(agents: list[Any], provider: Any) -> None:
    name = new_id()
    say(agents[0], "echo secret", name)
    where = f"{agents[1].url}/v1/conversations/{name}"
    assert httpx2.delete(where, headers=ADA, timeout=EVER).json() == {"conversation_id": name, "status": "deleted"}
    assert httpx2.delete(where, headers=ADA, timeout=EVER).status_code == 404
    assert remembered(agents[0], name) == []
    say(agents[0], "echo again", name)
    assert heard(provider) == ["echo again"]


@pytest.mark.parametrize("path", ["/v1/run", "/v1/stream"])
def test_a_second_turn_at_the_same_time_is_told_to_wait_and_asks_no_model(
    agents: list[Any], provider: Any, wait_until: Any, path: str
) -> None:
    name, run_id = new_id(), uuid.uuid4().hex
    before = provider.state()["requests"]
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(say(agents[0], "hang on", name, **{"x-run-id": run_id})))
    first.start()
    wait_until(lambda: provider.state()["requests"] > before, what="the first turn's request")
    second = say(agents[1], "hang too", name, path=path)
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    assert second.json()["title"] == "Conversation busy"
    assert provider.state()["requests"] == before + 1
    assert say(agents[1], "echo elsewhere", new_id()).status_code == 200
    httpx2.delete(f"{agents[0].url}/v1/runs/{run_id}", headers=ADA, timeout=EVER)
    first.join(EVER)
    assert answers[0].status_code == 409
    assert say(agents[1], "echo after it", name).status_code == 200
    assert heard(provider) == ["echo after it"], "a turn that was cancelled is not remembered"


def test_what_is_deleted_while_it_is_being_said_does_not_come_back(
    place: Place, embed: Any, configuration: Any
) -> None:
    name, held = new_id(), gated(embed, configuration, place)
    other = embed(configuration(**place.config()), model="echo", secrets=place.secrets)
    assert say(other, "first", name, headers={}).json()["remembered"] is True
    answer = held.begin(name)
    assert httpx2.delete(f"{other.url}/v1/conversations/{name}", timeout=EVER).status_code == 200
    held.gate.opened.set()
    assert (answer.result().status_code, answer.result().json()["remembered"]) == (200, False)
    assert remembered(other, name, headers={}) == []


def test_a_run_that_fails_leaves_the_conversation_as_it_was_and_one_that_is_repeated_takes_its_place(
    agents: list[Any], provider: Any
) -> None:
    name, run_id = new_id(), str(uuid.uuid4())
    assert say(agents[0], f"flaky-1-500 {name}", name).status_code == 502
    assert remembered(agents[0], name) == []
    assert say(agents[0], "echo one", name).status_code == 200
    for _ in range(2):
        assert say(agents[0], "two", name, **{"x-run-id": run_id}).status_code == 200
        assert heard(provider) == ["echo one", "You said: echo one", "two"]
    assert [content for role, content in remembered(agents[0], name) if role == "user"] == ["echo one", "two"]


def test_tools_and_typed_answers_are_remembered_and_shown_without_their_inside(
    place: Place, embed: Any, configuration: Any, provider: Any
) -> None:
    tools = {"instructions": "x", "tools": ["mine:lookup"]}
    agent = embed(configuration(agent=tools, **place.config()), model="tool", secrets=place.secrets, code=TOOL)
    name = new_id()
    for said in ("one", "two"):
        answer = say(agent, said, name, headers={})
        assert answer.status_code == 200, answer.text
    told = provider.state()["bodies"][-1]["messages"]
    assert [m["role"] for m in told] == ["system", "user", "assistant", "tool", "assistant", "user"]
    shown = remembered(agent, name, headers={})
    assert [role for role, _ in shown] == ["user", "assistant"] * 2, "neither a call nor what the tool has said"
    typed = {"instructions": "Help.", "input": INPUT, "outputSchema": OUTPUT}
    agent = embed(configuration(agent=typed, **place.config()), model="echo", secrets=place.secrets)
    name = new_id()
    for issue in ("late", "lost"):
        assert say(agent, {"customer_id": 7, "issue": issue}, name, headers={}).status_code == 200
    assert remembered(agent, name, headers={})[2:] == [
        ("user", "Customer 7: lost"),
        ("assistant", {"response": "done", "suggested_actions": ["a", "b"], "escalated": True}),
    ]


def test_a_conversation_never_outgrows_what_a_run_may_send(
    place: Place, embed: Any, configuration: Any, provider: Any
) -> None:
    limits = {"limits": {"maxConversationMessages": 10, "requestsPerRun": 2}}
    agent = embed(
        configuration(agent={"instructions": "x", **limits}, **place.config()), model="echo", secrets=place.secrets
    )
    name = new_id()
    for number in range(8):
        assert say(agent, f"q{number}", name, headers={}).status_code == 200
    assert [said for said in heard(provider) if said.startswith("q")] == ["q4", "q5", "q6", "q7"]
    assert [content for role, content in remembered(agent, name, headers={}) if role == "user"] == ["q5", "q6", "q7"]


@pytest.mark.parametrize("place", ["Redis"], indirect=True)
def test_equal_conversations_share_an_answer_of_the_cache_and_others_do_not(
    place: Place, embed: Any, configuration: Any, provider: Any
) -> None:
    cache = {"redisUrl": {"secretKeyRef": {"name": "store", "key": "url"}}, "scope": "Shared"}
    agent = embed(configuration(cache=cache, **place.config()), model="echo", secrets=place.secrets)
    first, second, third = new_id(), new_id(), new_id()

    def told(said: str, name: str) -> str:
        return say(agent, said, name, headers={}).headers["x-cache"]

    assert [told("I am Ada", first), told("who am I?", first)] == ["MISS", "MISS"]
    assert [told("I am Ada", second), told("who am I?", second)] == ["HIT", "HIT"]
    assert [told("I am Bob", third), told("who am I?", third)] == ["MISS", "MISS"]
    assert len(remembered(agent, second, headers={})) == 4


def test_without_its_store_nothing_is_asked_of_the_model_and_the_pod_stays_ready(
    own_place: Place, embed: Any, configuration: Any, provider: Any, wait_until: Any
) -> None:
    agent = embed(configuration(auth=AUTH, **own_place.config()), model="echo", secrets=own_place.secrets)
    name = new_id()
    assert say(agent, "one", name).status_code == 200
    own_place.stop()
    before = provider.state()["requests"]
    for path in ("/v1/run", "/v1/stream"):
        refused = say(agent, "two", name, path=path)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["title"] == "Conversations unavailable"
    for method in ("GET", "DELETE"):
        answer = httpx2.request(method, f"{agent.url}/v1/conversations/{name}", headers=ADA, timeout=EVER)
        assert answer.status_code == 503
    assert provider.state()["requests"] == before
    assert say(agent, "alone", None).status_code == 200
    assert agent.client.get("/ready").status_code == 200
    own_place.server.start()
    wait_until(lambda: say(agent, "three", name).status_code == 200, what="an answer once the store is back")
    for secret in (PASSWORD, WEB, str(own_place.server.port)):
        assert secret not in agent.stdout()


def test_a_store_that_is_lost_after_the_model_was_asked_costs_the_memory_and_not_the_answer(
    own_place: Place, embed: Any, configuration: Any
) -> None:
    held = gated(embed, configuration, own_place)
    answer = held.begin(new_id())
    own_place.stop()
    held.gate.opened.set()
    assert (answer.result().status_code, answer.result().json()["remembered"]) == (200, False)


def test_an_agent_that_remembers_nothing_says_so(embed: Any, configuration: Any) -> None:
    agent = embed(configuration())
    refused = say(agent, "hello", "c-1", headers={})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "conversation_id")
    assert "spec.conversations" in refused.text
    assert agent.client.get("/v1/conversations/c-1").status_code == 404
    assert "/v1/conversations/{conversation_id}" not in agent.client.get("/openapi.json").json()["paths"]


def test_what_is_no_id_is_refused_and_what_is_documented_is_served(agents: list[Any]) -> None:
    for wrong in ("", " ", "a b", "x" * 129, "ünïcode", 7, ["a"], "-a", "a/b"):
        refused = say(agents[0], "echo", wrong)  # pyright: ignore[reportArgumentType]
        assert refused.status_code == 422, wrong
        assert refused.json()["errors"][0]["path"] == "conversation_id"
    document = agents[0].client.get("/openapi.json").json()
    assert set(document["paths"]["/v1/conversations/{conversation_id}"]) == {"get", "delete"}
    assert "conversation_id" in document["components"]["schemas"]["Run"]["properties"]
    assert {"conversation_id", "remembered"} <= set(document["components"]["schemas"]["Answer"]["properties"])


async def test_a_turn_whose_process_died_gives_way_and_brings_nothing_back(place: Place) -> None:
    store, other = place.open(), place.open()
    key = new_id()
    assert await store.begin(key, token="dead", lease_seconds=0.05) is None
    async with asyncio.timeout(EVER):
        while True:
            try:
                assert await other.begin(key, token="next", lease_seconds=60) is None
                break
            except Busy:
                continue
    assert not await store.keep(key, token="dead", body=b"old", seconds=60)
    await store.leave(key, token="dead")
    with pytest.raises(Busy):
        await store.begin(key, token="third", lease_seconds=60)
    assert await other.keep(key, token="next", body=b"new", seconds=60)
    assert await other.keep(key, token="next", body=b"new", seconds=60), "an answer that was lost is asked for again"
    assert await store.read(key) == b"new"
    assert await place.open("another/service/x").read(key) is None
    for each in (store, other):
        await each.close()


async def test_a_conversation_ends_with_its_time(place: Place) -> None:
    store, key = place.open(), new_id()
    await store.begin(key, token="t", lease_seconds=60)
    assert await store.keep(key, token="t", body=b"said", seconds=0.05)
    while await store.read(key) is not None:
        pass
    assert not await store.delete(key)
    assert await store.begin(key, token="u", lease_seconds=60) is None
    await store.close()


@pytest.mark.parametrize("place", ["Postgres"], indirect=True)
async def test_a_database_is_swept_of_what_has_outlived_its_time_by_whoever_uses_it(place: Place) -> None:
    assert isinstance(place.server, PostgresServer)
    store, other = place.open("gone/agent/x"), place.open()
    old, young = new_id(), new_id()
    for key, seconds in ((old, 0.001), (young, 600)):
        await store.begin(key, token="t", lease_seconds=60)
        await store.keep(key, token="t", body=b"said", seconds=seconds)
    while await store.read(old) is not None:
        pass
    count = f"select count(*) from agentservice_conversations where key in ('{old}', '{young}')"
    assert place.server.sql(count) == "2"
    await other.sweep()
    assert place.server.sql(count) == "1"
    for each in (store, other):
        await each.close()


@pytest.mark.parametrize("own_place", ["Postgres"], indirect=True)
async def test_a_role_that_may_make_no_tables_uses_the_one_that_is_there(own_place: Place) -> None:
    assert isinstance(own_place.server, PostgresServer)
    server = own_place.server
    server.sql("create role app login password 'app'; revoke create on schema public from public")
    url = server.url.replace(f"postgres:{PASSWORD}", "app:app").replace("postgresql://", "postgresql+asyncpg://")
    store = PostgresStore(lambda: url, owner="o", answer_seconds=60)
    with pytest.raises(Unavailable) as told:
        await store.begin("k", token="t", lease_seconds=60)
    assert "InsufficientPrivilege" in str(told.value)
    assert await own_place.open().begin("k", token="t", lease_seconds=60) is None
    server.sql("grant select, insert, update, delete on agentservice_conversations to app")
    assert await store.begin("k", token="t", lease_seconds=60) is None
    await store.close()


@pytest.mark.parametrize("place", ["Redis"], indirect=True)
def test_the_examples_of_the_page_run(place: Place, embed: Any, configuration: Any) -> None:
    agent = embed(configuration(**place.config()), secrets=place.secrets)
    (code,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    program = code.replace("localhost:8000", f"127.0.0.1:{agent.port}")
    environ = {**os.environ, "no_proxy": "*"}
    done = subprocess.run(["bash", "-euc", program], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"remembered":true') == 2
    assert done.stdout.count('"role":"user"') == 2
    assert done.stdout.endswith('"status":"deleted"}')
