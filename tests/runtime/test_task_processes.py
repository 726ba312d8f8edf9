"""Tasks and the death of processes: real runtimes that are killed, stopped, frozen and told to end, and a Redis that is started again.

The provider's own count of answers is the truth about what was run.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from tests.services.redis_server import Persistence, RedisServer

LONG = 600
"""A lease that does not end while a test runs: what happens meanwhile did not wait for that."""
SHORT = 3
PODS = 4
DEEP = os.environ.get("AGENTSERVICE_DEEP") == "1"
TASKS = 1000 if DEEP else 200
KILL_SECONDS = 5.0 if DEEP else 3.0
POISON = """
import os
import signal

def look(x: int) -> str:
    '''Look.'''
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def redis(installed: None) -> Iterator[RedisServer]:
    with RedisServer(persistence=Persistence.AOF) as server:
        yield server


def queued(configuration: Callable[..., dict[str, Any]], provider: Any, **parts: Any) -> dict[str, Any]:
    queue = {
        "redisUrl": {"secretKeyRef": {"name": "redis", "key": "url"}},
        "leaseSeconds": LONG,
        **parts.pop("queue", {}),
    }
    serving = {"concurrencyPerPod": 16, "drainTimeoutSeconds": 20, **parts.pop("serving", {})}
    return configuration(queue=queue, serving=serving, model=provider.serving("as-asked"), **parts)


def without_work(config: dict[str, Any]) -> dict[str, Any]:
    """The same for a process that only takes tasks in and tells of them."""
    return {**config, "queue": {**config["queue"], "hasWorkers": True}}


def up(*pods: Any) -> None:
    deadline = time.monotonic() + 300
    for pod in pods:
        while not is_ready(pod):
            assert pod.process.poll() is None, pod.stderr() + pod.stdout()
            assert time.monotonic() < deadline, "the runtime is not ready"
            time.sleep(0.2)


def is_ready(pod: Any) -> bool:
    try:
        return pod.client.get("/ready").status_code == 200
    except httpx2.TransportError:
        return False


def submit(pod: Any, value: str) -> str:
    answer = pod.client.post("/v1/tasks", json={"input": value}, timeout=60)
    assert answer.status_code == 202, answer.text
    return answer.json()["task_id"]


def ended(pod: Any, id: str) -> dict[str, Any]:
    """The task once it has ended, as ``pod`` tells it."""
    deadline = time.monotonic() + 300
    while True:
        answer = pod.client.get(f"/v1/tasks/{id}", params={"wait": 5}, timeout=120)
        if answer.status_code == 200 and answer.json()["finished_at"]:
            return answer.json()
        assert answer.status_code in (200, 503), answer.text
        assert time.monotonic() < deadline, f"the task has not ended: {answer.text}"


def asked_for(provider: Any, word: str) -> int:
    return sum(word in str(body["messages"]) for body in provider.state()["bodies"])


def test_a_task_longer_than_its_lease_runs_once(
    embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    # so long that a machine that stands still for a moment does not lose the lease
    config = queued(configuration, provider, queue={"leaseSeconds": 10})
    pods = [embed(config, secrets={"redis/url": redis.url}) for _ in range(2)]
    word = uuid.uuid4().hex
    done = ended(pods[0], submit(pods[1], f"slow-25000 {word}"))
    assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert asked_for(provider, word) == 1


def test_a_pod_that_stops_gives_back_at_once_what_it_cannot_finish(
    launch: Any, embed: Any, configuration: Any, redis: RedisServer, provider: Any, wait_until: Any
) -> None:
    config, secrets = queued(configuration, provider), {"redis/url": redis.url}
    stopping = launch(config, secrets=secrets, wait=False)
    up(stopping)
    word = uuid.uuid4().hex
    ids = [submit(stopping, f"flaky-1-hang {word} {number}") for number in range(3)]
    wait_until(lambda: asked_for(provider, word) >= 3, what="the requests to the provider")
    stopping.signal(signal.SIGTERM)
    assert stopping.exit_code(150) == 0
    other = embed(config, secrets=secrets)
    for id in ids:
        done = ended(other, id)
        # nobody waited for the lease, and no attempt was lost
        assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert asked_for(provider, word) == 6


def test_a_pod_that_stops_finishes_what_it_can(
    launch: Any, embed: Any, configuration: Any, redis: RedisServer, provider: Any, wait_until: Any
) -> None:
    config, secrets = queued(configuration, provider, serving={"drainTimeoutSeconds": 120}), {"redis/url": redis.url}
    stopping = launch(config, secrets=secrets, wait=False)
    up(stopping)
    word = uuid.uuid4().hex
    id = submit(stopping, f"slow-4000 {word}")
    wait_until(lambda: asked_for(provider, word) == 1)
    stopping.signal(signal.SIGTERM)
    assert stopping.exit_code(150) == 0
    done = ended(embed(without_work(config), secrets=secrets), id)
    assert (done["status"], done["attempts"]) == ("succeeded", 1)
    assert asked_for(provider, word) == 1


def test_a_pod_that_was_frozen_for_longer_than_its_lease_does_not_overwrite_what_another_has_answered(
    launch: Any, embed: Any, configuration: Any, redis: RedisServer, provider: Any, wait_until: Any
) -> None:
    config = queued(configuration, provider, queue={"leaseSeconds": SHORT, "maxAttempts": 100})
    secrets = {"redis/url": redis.url}
    frozen = launch(config, secrets=secrets, wait=False)
    up(frozen)
    word = uuid.uuid4().hex
    id = submit(frozen, f"slow-1000 {word}")
    wait_until(lambda: asked_for(provider, word) >= 1)
    frozen.signal(signal.SIGSTOP)
    other = embed(config, secrets=secrets)
    done = ended(other, id)
    assert (done["status"], done["attempts"] >= 2) == ("succeeded", True)
    frozen.signal(signal.SIGCONT)
    late = "another process has it"
    wait_until(lambda: [line for line in frozen.lines() if late in line["message"]], what="a word about the lost lease")
    assert ended(other, id) == done


def test_a_task_that_kills_its_workers_ends_among_the_dead_and_takes_no_other_with_it(
    launch: Any, embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    agent = {"instructions": "Answer briefly.", "tools": ["mine:look"]}
    config = queued(configuration, provider, agent=agent, queue={"leaseSeconds": 10, "maxAttempts": 2})
    secrets, code = {"redis/url": redis.url}, {"mine.py": POISON}
    keeper = embed(without_work(config), secrets=secrets, code=code)
    poison, *innocent = [submit(keeper, value) for value in ("tool kill me", "slow-500 a", "slow-500 b", "slow-500 c")]

    def have_ended() -> bool:
        shown = [keeper.client.get(f"/v1/tasks/{id}").json() for id in (poison, *innocent)]
        return all(task.get("finished_at") for task in shown)

    deadline = time.monotonic() + 300
    while not have_ended():
        assert time.monotonic() < deadline, "the tasks have not ended"
        pod = launch(config, secrets=secrets, code=code, environ={"AGENTSERVICE_ROLE": "worker"}, wait=False)
        while pod.process.poll() is None and not have_ended():
            time.sleep(0.2)
    done = ended(keeper, poison)
    assert (done["status"], done["attempts"], done["reason"]) == ("failed", 2, "workers")
    assert done["problem"]["title"] == "Given up"
    assert [ended(keeper, id)["status"] for id in innocent] == ["succeeded"] * 3
    dead = keeper.client.get("/v1/tasks", params={"status": "failed"}).json()["tasks"]
    assert [task["task_id"] for task in dead] == [poison]


def test_with_workers_those_that_serve_only_take_tasks_in(
    launch: Any, embed: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    config, secrets = without_work(queued(configuration, provider)), {"redis/url": redis.url}
    server = embed(config, secrets=secrets)
    id = submit(server, f"quick {uuid.uuid4().hex}")
    worker = launch(config, secrets=secrets, environ={"AGENTSERVICE_ROLE": "worker"}, wait=False)
    up(worker)
    assert ended(server, id)["status"] == "succeeded"
    assert (len(server.lines("run")), len(worker.lines("run"))) == (0, 1)
    assert worker.client.get("/metrics").status_code == worker.client.get("/health").status_code == 200
    for answer in (worker.run("x"), worker.client.get("/docs"), worker.client.get(f"/v1/tasks/{id}")):
        assert answer.status_code == 404


class Fleet:
    """Pods of which one is killed again and again, and started anew at its address."""

    def __init__(self, launch: Any, redis: RedisServer, config: dict[str, Any]) -> None:
        self._launch = launch
        self._config = config
        self._secrets = {"redis/url": redis.url}
        self._client = httpx2.Client(timeout=60, limits=httpx2.Limits(max_connections=100))
        self.pods = [launch(config, secrets=self._secrets, wait=False) for _ in range(PODS)]
        self.kills = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._kill)

    def begin(self) -> None:
        up(*self.pods)
        self._thread.start()

    def end(self) -> None:
        self._is_over.set()
        self._thread.join(300)

    def _kill(self) -> None:
        turns = random.Random(4711)
        # on a slow machine not so often that none would ever be ready
        while not self._is_over.wait(KILL_SECONDS):
            if not all(is_ready(pod) for pod in self.pods):
                continue
            victim = turns.randrange(PODS)
            old = self.pods[victim]
            old.signal(signal.SIGKILL)
            old.process.wait(60)
            self.kills += 1
            self.pods[victim] = self._launch(self._config, secrets=self._secrets, port=old.port, wait=False)

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Ask until one of the pods has answered with something else than that it cannot."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            pod = random.choice(self.pods)
            try:
                answer = self._client.request(method, f"{pod.url}{path}", **more)
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code != 503:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"nobody answered {path}")


def test_pods_are_killed_and_redis_is_started_again_and_each_task_is_done_exactly_once_for_its_caller(
    launch: Any, configuration: Any, redis: RedisServer, provider: Any
) -> None:
    # so many attempts that no task is unlucky as often as that
    config = queued(configuration, provider, queue={"leaseSeconds": SHORT, "maxAttempts": 100, "concurrencyPerPod": 4})
    fleet = Fleet(launch, redis, config)
    fleet.begin()
    began = time.monotonic()
    run = uuid.uuid4().hex

    def life(number: int) -> tuple[str, str]:
        """One task as its caller sees it: asked for until it is taken in, then watched until it has ended."""
        asked = {"json": {"input": f"slow-1000 {run} {number}"}, "headers": {"idempotency-key": f"{run}-{number}"}}
        taken_in = fleet.ask("POST", "/v1/tasks", **asked)
        assert taken_in.status_code == 202, taken_in.text
        id = taken_in.json()["task_id"]
        while True:
            shown = fleet.ask("GET", f"/v1/tasks/{id}", params={"wait": 10})
            assert shown.status_code == 200, shown.text
            if shown.json()["finished_at"]:
                return id, shown.text

    found: list[tuple[str, str]] = []
    try:
        with ThreadPoolExecutor(32) as callers:
            while len(found) < TASKS or fleet.kills < 2:
                batch = range(len(found), len(found) + (TASKS if not found else 20))
                lives = [callers.submit(life, number) for number in batch]
                if not found:
                    time.sleep(KILL_SECONDS)
                    redis.kill()
                    redis.start()
                found += [life.result() for life in lives]
    finally:
        fleet.end()
    count = len(found)
    seconds = time.monotonic() - began
    print(f"{count} tasks on {PODS} processes in {seconds:.0f} s, {fleet.kills} killed, one restart of Redis")
    assert len({id for id, _ in found}) == count
    up(*fleet.pods)
    for id, seen in found:
        last = fleet.ask("GET", f"/v1/tasks/{id}")
        assert last.json()["status"] == "succeeded", last.text
        # what was told once never changes
        assert seen == last.text
    runs = asked_for(provider, run)
    print(f"{runs} runs for {count} tasks: {runs - count} begun again")
    assert runs >= count
