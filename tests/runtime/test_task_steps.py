"""Tasks whose steps are kept in PostgreSQL: processes that die in the middle, a database that goes away, another revision.

The provider's own count of requests, the tool's own of calls and the budget's books are the truth about what was done.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.postgres_server import PostgresServer
from tests.services.programs import at_hand
from tests.services.redis_server import RedisServer

from agentservice_runtime.postgres import Away
from agentservice_runtime.steps.store import Lost, StepStore
from devcluster.packages import Need

SHORT = 6
"""A lease that is waited for, and that a machine which stands still for a moment does not lose."""
USAGE = 28
"""Tokens that the stand-in bills for an answer."""
TURNS = 3
"""Calls of the tool in each task; the model is asked once more."""
PASSWORD = "s3cret-of-the-steps"
CODE = """
import asyncio
import os
import pathlib

FOLDER = pathlib.Path(os.environ["TEST_CALLS"])

async def look(x: int) -> dict[str, int]:
    '''Look.'''
    with (FOLDER / f"call-{x}").open("a") as told:
        told.write(".")
    while (FOLDER / f"hold-{x}").exists():
        await asyncio.sleep(0.02)
    if (FOLDER / f"fail-{x}").exists():
        raise RuntimeError("broken")
    return {"seen": x}
"""


@pytest.fixture(scope="module")
def database(installed: None) -> Iterator[PostgresServer]:
    at_hand(Need.POSTGRES)
    with PostgresServer(password=PASSWORD) as server:
        yield server


class Scene:
    """An agent whose tool counts its calls, and may be held or made to fail in one of them."""

    def __init__(self, folder: Path, *, config: dict[str, Any], secrets: dict[str, str]) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.sqlite"
        self.config = config
        self.arguments: dict[str, Any] = {"secrets": secrets, "code": {"mine.py": CODE}}
        self.environ = {"TEST_CALLS": str(folder), "AGENTSERVICE_LEDGER": str(self.ledger)}
        self.word = uuid.uuid4().hex

    def calls(self, x: int) -> int:
        place = self.folder / f"call-{x}"
        return len(place.read_text()) if place.exists() else 0

    def let(self, what: str, *, be: bool) -> None:
        if be:
            (self.folder / what).touch()
        else:
            (self.folder / what).unlink()

    def submit(self, pod: Any) -> str:
        answer = pod.client.post("/v1/tasks", json={"input": f"turns-{TURNS} {self.word}"}, timeout=60)
        assert answer.status_code == 202, answer.text
        return answer.json()["task_id"]

    def ended(self, pod: Any, id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 300
        while True:
            answer = pod.client.get(f"/v1/tasks/{id}", params={"wait": 5}, timeout=120)
            assert answer.status_code == 200, answer.text
            if answer.json()["finished_at"]:
                return answer.json()
            assert time.monotonic() < deadline, f"the task has not ended: {answer.text}"

    def settled(self) -> int | None:
        """The tokens that the budget was charged, None while something is in flight."""
        with sqlite3.connect(self.ledger) as db:
            row = db.execute(
                "SELECT settled_tokens + presumed_tokens, reserved_tokens FROM window WHERE name = 'monthly'"
            ).fetchone()
        return None if row[1] else row[0]


@pytest.fixture
def scene(
    tmp_path: Path, configuration: Any, provider: Any, database: PostgresServer, redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:  # fmt: skip
    def of(name: str) -> dict[str, Any]:
        return {"secretKeyRef": {"name": name, "key": "url"}}

    config = configuration(
        name=f"steps-{uuid.uuid4().hex[:8]}",
        agent={"instructions": "Answer briefly.", "tools": ["mine:look"]},
        model=provider.serving("as-asked"),
        queue={"redisUrl": of("redis"), "stepsUrl": of("database"), "leaseSeconds": SHORT, "maxAttempts": 5},
        budget={
            "ledger": "SQLite",
            "terms": {"enforcement": "Hard", "windows": [{"name": "daily", "tokens": 1_000_000}], "prices": []},
        },
    )
    folder = tmp_path / "scene"
    folder.mkdir()
    found = Scene(folder, config=config, secrets={"redis/url": redis.url, "database/url": database.url})
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    return found


def bodies(provider: Any, word: str) -> list[int]:
    """How many results the tool had told when the model was asked, for each request of the task."""
    asked = [body["messages"] for body in provider.state()["bodies"] if word in str(body["messages"])]
    return [sum(message["role"] == "tool" for message in messages) for messages in asked]


def rows(database: PostgresServer, scene: Scene) -> int:
    owner = f"team-a/{scene.config['name']}/"
    return int(database.sql(f"select count(*) from agentservice_steps where owner = '{owner}'"))


def test_a_process_is_killed_in_the_third_step_and_another_goes_on_there(
    launch: Any, embed: Any, scene: Scene, provider: Any, database: PostgresServer, wait_until: Any
) -> None:
    scene.let("hold-2", be=True)
    victim = launch(scene.config, environ=scene.environ, **scene.arguments)
    id = scene.submit(victim)
    wait_until(lambda: scene.calls(2), what="the third call")
    wait_until(lambda: scene.settled() == 3 * USAGE, what="that three requests are settled")
    victim.process.kill()
    victim.process.wait(60)
    scene.let("hold-2", be=False)
    other = embed(scene.config, **scene.arguments)
    done = scene.ended(other, id)
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    # each request was sent once, and each call that had ended was made once
    assert bodies(provider, scene.word) == [0, 1, 2, 3]
    assert [scene.calls(x) for x in range(TURNS)] == [1, 1, 2]
    # the budget was charged once, and the caller is told of all of it
    wait_until(lambda: scene.settled() == 4 * USAGE, what="that four requests are settled")
    assert done["result"]["usage"] == {"input_tokens": 80, "output_tokens": 32, "total_tokens": 112, "requests": 4}
    (line,) = other.lines("a task goes on after its last step")
    assert (line["task_id"], line["steps"]) == (id, 5)
    # what this process has used is what it counts
    counted = [
        line
        for line in other.client.get("/metrics").text.splitlines()
        if line.startswith("pydantic_ai_tokens_used_total{")
    ]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == USAGE
    # nothing of it stays, and no secret is told
    wait_until(lambda: rows(database, scene) == 0, what="that the steps are forgotten")
    assert PASSWORD not in victim.stdout() + victim.stderr() + other.stdout()


def test_another_revision_that_asks_otherwise_begins_from_there(embed: Any, scene: Scene, provider: Any) -> None:
    scene.let("fail-1", be=True)
    first = embed(scene.config, **scene.arguments)
    id = scene.submit(first)
    assert scene.ended(first, id)["status"] == "failed"
    first.close()
    scene.let("fail-1", be=False)
    agent = {**scene.config["agent"], "instructions": "Answer at length."}
    other = embed({**scene.config, "agent": agent}, **scene.arguments)
    assert other.client.post(f"/v1/tasks/{id}/requeue").status_code in (200, 202)
    done = scene.ended(other, id)
    assert done["status"] == "succeeded"
    assert bodies(provider, scene.word) == [0, 1, 0, 1, 2, 3]
    assert [scene.calls(x) for x in range(TURNS)] == [2, 2, 1]
    assert done["result"]["usage"]["requests"] == 4


def test_the_database_is_stopped_in_the_middle_and_nothing_that_was_written_is_done_again(
    embed: Any, scene: Scene, provider: Any, database: PostgresServer, wait_until: Any
) -> None:
    scene.let("hold-2", be=True)
    pod = embed(scene.config, **scene.arguments)
    id = scene.submit(pod)
    wait_until(lambda: scene.calls(2), what="the third call")
    database.stop()
    try:
        scene.let("hold-2", be=False)
        away = "the database of the tasks' steps cannot be used: tasks that want them wait"
        wait_until(lambda: pod.lines(away), what="a word about the database")
    finally:
        database.start()
    done = scene.ended(pod, id)
    assert done["status"] == "succeeded"
    # on a slow machine the attempt may have ended in waiting, and then the third call is made again: what was written is not
    assert bodies(provider, scene.word) == [0, 1, 2, 3]
    assert [scene.calls(x) for x in range(TURNS - 1)] == [1, 1]


def test_a_task_waits_without_an_attempt_for_a_database_that_is_away_when_it_begins(
    embed: Any, scene: Scene, provider: Any, database: PostgresServer, wait_until: Any
) -> None:
    pod = embed(scene.config, **scene.arguments)
    database.stop()
    try:
        id = scene.submit(pod)
        wait_until(lambda: pod.client.get(f"/v1/tasks/{id}").json().get("retry_at"), what="that the task is given back")
    finally:
        database.start()
    done = scene.ended(pod, id)
    assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert bodies(provider, scene.word) == [0, 1, 2, 3]
    assert pod.client.get("/ready").status_code == 200


def test_a_failed_task_that_is_queued_again_goes_on_after_its_last_step(
    embed: Any, scene: Scene, provider: Any, database: PostgresServer, wait_until: Any
) -> None:
    scene.let("fail-1", be=True)
    pod = embed(scene.config, **scene.arguments)
    id = scene.submit(pod)
    failed = scene.ended(pod, id)
    assert (failed["status"], failed["problem"]["category"]) == ("failed", "internal")
    scene.let("fail-1", be=False)
    assert pod.client.post(f"/v1/tasks/{id}/requeue").status_code in (200, 202)
    done = scene.ended(pod, id)
    assert done["status"] == "succeeded"
    assert bodies(provider, scene.word) == [0, 1, 2, 3]
    assert [scene.calls(x) for x in range(TURNS)] == [1, 2, 1]
    wait_until(lambda: rows(database, scene) == 0, what="that the steps are forgotten")


def test_a_model_request_that_fails_and_is_sent_again_is_one_step(embed: Any, scene: Scene, provider: Any) -> None:
    model = provider.serving("as-asked", retry={"maxAttempts": 2})
    pod = embed({**scene.config, "agent": {"instructions": "Answer."}, "model": model}, **scene.arguments)
    answer = pod.client.post("/v1/tasks", json={"input": f"flaky-1-503 {scene.word}"}, timeout=60)
    done = scene.ended(pod, answer.json()["task_id"])
    assert (done["status"], done["attempts"], done["result"]["usage"]["requests"]) == ("succeeded", 1, 1)
    assert len(bodies(provider, scene.word)) == 2


def test_answers_that_are_the_failure_are_not_read_again(
    embed: Any, scene: Scene, provider: Any, database: PostgresServer, wait_until: Any
) -> None:
    schema = {"type": "object", "properties": {"response": {"type": "string"}}, "required": ["response"]}
    agent = {"instructions": "Answer.", "outputSchema": schema, "retries": {"output": 1}}
    pod = embed({**scene.config, "agent": agent}, **scene.arguments)
    answer = pod.client.post("/v1/tasks", json={"input": f"invalid {scene.word}"}, timeout=60)
    id = answer.json()["task_id"]
    assert scene.ended(pod, id)["problem"]["category"] == "validation"
    asked = len(bodies(provider, scene.word))
    assert asked == 2
    wait_until(lambda: rows(database, scene) == 0, what="that the steps are forgotten")
    assert pod.client.post(f"/v1/tasks/{id}/requeue").status_code in (200, 202)
    assert scene.ended(pod, id)["status"] == "failed"
    assert len(bodies(provider, scene.word)) == 2 * asked


def opened(database: PostgresServer, *, owner: str = "o", keep_seconds: float = 600) -> StepStore:
    return StepStore(lambda: database.url, owner=owner, keep_seconds=keep_seconds, answer_seconds=60)


async def written(store: StepStore, task: str, *, fence: int, number: int, call: str = "", body: bytes = b"b") -> None:
    await store.write(task, fence=fence, number=number, call=call, digest=f"d{number}{call}", body=body)


async def test_steps_are_written_by_the_latest_lease_alone(database: PostgresServer) -> None:
    store, task = opened(database), uuid.uuid4().hex
    assert await store.open(task, fence=10) == {}
    await written(store, task, fence=10, number=1)
    await written(store, task, fence=10, number=1, call="c")
    # the same lease may ask again, when an answer was lost
    assert await store.open(task, fence=10) == {(1, ""): "d1", (1, "c"): "d1c"}
    later = opened(database)
    assert await later.open(task, fence=11) == {(1, ""): "d1", (1, "c"): "d1c"}
    for late in (
        written(store, task, fence=10, number=2),
        written(store, task, fence=10, number=1, body=b"other"),
        store.discard(task, fence=10, number=1),
        store.open(task, fence=10),
    ):
        with pytest.raises(Lost):
            await late
    await written(later, task, fence=11, number=2)
    assert await later.read(task, number=1, call="") == b"b"
    await later.discard(task, fence=11, number=2)
    assert await later.open(task, fence=12) == {(1, ""): "d1", (1, "c"): "d1c"}
    await later.forget(task)
    with pytest.raises(Lost):
        await written(later, task, fence=12, number=1)
    assert await opened(database, owner="other").open(task, fence=1) == {}
    for each in (store, later):
        await each.close()


async def test_a_lease_that_begins_while_a_step_is_written_sees_it_or_refuses_it(database: PostgresServer) -> None:
    stores, task = [opened(database), opened(database)], uuid.uuid4().hex
    refused = 0
    for fence in range(1, 21):
        await stores[0].open(task, fence=fence)
        write = written(stores[0], task, fence=fence, number=fence)
        wrote, seen = await asyncio.gather(write, stores[1].open(task, fence=fence + 1), return_exceptions=True)
        assert isinstance(seen, dict)
        assert wrote is None or isinstance(wrote, Lost)
        refused += wrote is not None
        assert ((fence, "") in seen) is (wrote is None)
    print(f"{refused} of 20 refused")
    for each in stores:
        await each.close()


async def test_steps_that_have_outlived_their_time_are_swept_by_whoever_uses_the_table(
    database: PostgresServer,
) -> None:
    short, other, task = opened(database, keep_seconds=0.001), opened(database, owner="x"), uuid.uuid4().hex
    await short.open(task, fence=1)
    await written(short, task, fence=1, number=1)
    count = f"select count(*) from agentservice_steps where task = '{task}'"
    assert database.sql(count) == "2"
    while int(database.sql(count)):
        await other.sweep()
    for each in (short, other):
        await each.close()


async def test_a_database_that_refuses_is_away_and_its_address_is_not_told(database: PostgresServer) -> None:
    url = database.url.replace(PASSWORD, "wrong-canary")
    store = StepStore(lambda: url, owner="o", keep_seconds=1, answer_seconds=60)
    with pytest.raises(Away) as told:
        await store.open("t", fence=1)
    assert "wrong-canary" not in str(told.value)
    assert "127.0.0.1" not in str(told.value)
    await store.close()
