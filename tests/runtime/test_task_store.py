"""The steps of the queue in a real Redis: leases, fences, what is due, and what a Redis that was away leaves behind."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.services.redis_server import RedisServer

from agentservice_api.names import queue_prefix
from agentservice_runtime.tasks import problems
from agentservice_runtime.tasks.store import Lease, Swept, TaskStore, Terms, Unavailable, Word, owner_key
from agentservice_runtime.tasks.task import Reason, Status

ADA, BOB = owner_key("ada"), owner_key("bob")
EVER = 600.0
"""A lease that does not end while a test runs."""
SOON = 0.05
TERMS = Terms(
    lease_seconds=EVER,
    max_attempts=2,
    result_seconds=600,
    cancelled=problems.CANCELLED,
    given_up=problems.given_up(2),
    away_seconds=EVER,
)


class Queue:
    """One queue, and the processes that speak with it."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self._prefix = queue_prefix(namespace="team-a", name="support", uid=uuid.uuid4().hex)
        self._stores: list[TaskStore] = []

    def process(self, **terms: float) -> TaskStore:
        store = TaskStore(
            lambda: self._redis.url,
            prefix=self._prefix,
            terms=replace(TERMS, **terms),  # pyright: ignore[reportArgumentType]
            consumer=f"process-{len(self._stores)}",
            answer_seconds=60,
        )
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@asynccontextmanager
async def queue_in(redis: RedisServer) -> AsyncGenerator[Queue]:
    queue = Queue(redis)
    try:
        yield queue
    finally:
        await queue.close()


async def submitted(store: TaskStore, *ids: str, owner: str = ADA) -> None:
    for id in ids:
        assert await store.submit(id, owner=owner, asker=b"{}", content=b'"hello"') is Word.NEW


async def taken(store: TaskStore, *, token: str = "", has_suspect: bool = False) -> Lease:
    lease = await taken_or_not(store, token=token, has_suspect=has_suspect)
    assert lease is not None
    return lease


async def taken_or_not(store: TaskStore, *, token: str = "", has_suspect: bool = False) -> Lease | None:
    deadline = time.monotonic() + 60
    while (found := await store.next()) is None:
        assert time.monotonic() < deadline, "no task came"
    entry, id = found
    return await store.begin(id, entry, token=token or uuid.uuid4().hex, has_suspect=has_suspect)


async def swept_until(store: TaskStore, found: Callable[[Swept], object]) -> None:
    deadline = time.monotonic() + 60
    while not found(await store.sweep()):
        assert time.monotonic() < deadline, "a sweep did not find it"
        await asyncio.sleep(SOON)


def lost(swept: Swept) -> int:
    return swept.lost


def dead(swept: Swept) -> int:
    return swept.dead


async def status(store: TaskStore, id: str, owner: str = ADA) -> Status:
    task = await store.show(id, owner=owner)
    assert task is not None
    return task.status


async def test_a_task_is_given_to_one_process_and_its_end_is_kept(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        one, other = queue.process(), queue.process()
        await submitted(one, "a")
        lease = await taken(one)
        assert (lease.attempts, lease.is_suspect, lease.input) == (1, False, b'"hello"')
        assert await other.next() is None
        assert await one.finish(lease, Status.SUCCEEDED, b'{"output":1}', reason="", run_id="r") is Word.DONE
        task = await other.show("a", owner=ADA)
        assert task is not None
        assert task.document()["result"] == {"output": 1}
        assert (await one.sweep()).running == 0


async def test_the_same_request_is_one_task_and_another_one_of_its_key_is_refused(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        assert await store.submit("a", owner=ADA, asker=b"{}", content=b'"hello"') is Word.KNOWN
        assert await store.submit("a", owner=ADA, asker=b"{}", content=b'"bye"') is Word.OTHER
        assert (await store.sweep()).waiting == 1


async def test_a_step_whose_answer_was_lost_may_be_sent_again(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        found = await store.next()
        assert found is not None
        entry, id = found
        first = await store.begin(id, entry, token="t", has_suspect=False)
        again = await store.begin(id, entry, token="t", has_suspect=False)
        assert first == again
        assert first is not None
        for _ in range(2):
            assert await store.finish(first, Status.SUCCEEDED, b"1", reason="", run_id="r") is Word.DONE
        events = await store.heard("a", owner=ADA, after="0-0")
        assert events is not None
        assert [event.name for event in events.events] == ["status", "status", "result"]


async def test_a_process_that_was_thought_dead_writes_nothing_any_more(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        slow, quick = queue.process(lease_seconds=SOON), queue.process(lease_seconds=SOON)
        await submitted(slow, "a")
        zombie = await taken(slow)
        await swept_until(quick, lost)
        lease = await taken(quick)
        assert (lease.attempts, lease.is_suspect) == (2, True)
        assert await slow.renew([zombie]) == [Word.LOST]
        assert await slow.finish(zombie, Status.SUCCEEDED, b'"zombie"', reason="", run_id="z") is Word.LOST
        assert await slow.back(zombie, after_seconds=0, counts=False) is Word.LOST
        await slow.note(zombie, [("delta", b'{"text":"zombie"}')])
        assert await quick.finish(lease, Status.SUCCEEDED, b'"quick"', reason="", run_id="q") is Word.DONE
        assert await slow.finish(zombie, Status.FAILED, b'"zombie"', reason="x", run_id="z") is Word.LOST
        task, heard = await quick.show("a", owner=ADA), await quick.heard("a", owner=ADA, after="0-0")
        assert task is not None
        assert heard is not None
        assert (task.content, task.run_id, task.attempts) == (b'"quick"', "q", 2)
        assert not [event for event in heard.events if b"zombie" in event.data]


async def test_a_lease_that_is_renewed_does_not_end(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process(lease_seconds=1)
        await submitted(store, "a")
        lease = await taken(store)
        began = renewed = time.monotonic()
        while time.monotonic() < began + 3:
            if await store.renew([lease]) == [Word.LOST]:
                # a machine that stands still for the time of a lease loses it, which is what it is for
                assert time.monotonic() - renewed > 0.9
                return
            renewed = time.monotonic()
            await store.sweep()
            await asyncio.sleep(SOON)
        assert await store.finish(lease, Status.SUCCEEDED, b"1", reason="", run_id="r") is Word.DONE


async def test_a_task_whose_workers_all_die_ends_among_the_dead_with_its_reason(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process(lease_seconds=SOON)
        await submitted(store, "a")
        await taken(store)
        await swept_until(store, lost)
        await taken(store)
        await swept_until(store, dead)
        (given_up,), _ = await store.listed(owner=ADA, dead=True, before=None, count=10)
        assert (given_up.id, given_up.status, given_up.reason, given_up.attempts) == (
            "a",
            Status.FAILED,
            Reason.WORKERS,
            2,
        )
        assert given_up.document()["problem"]["title"] == "Given up"
        assert await store.requeue("a", owner=ADA) is Word.DONE
        assert (await store.listed(owner=ADA, dead=True, before=None, count=10))[0] == []
        lease = await taken(store)
        assert (lease.attempts, lease.is_suspect, lease.input) == (1, False, b'"hello"')
        assert await store.requeue("a", owner=ADA) is Word.NOT_FAILED


async def test_two_tasks_that_were_there_when_a_worker_died_never_share_one_again(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        doomed, store = queue.process(lease_seconds=SOON), queue.process(lease_seconds=SOON, max_attempts=9)
        await submitted(doomed, "poison", "innocent")
        await taken(doomed)
        await taken(doomed)
        await swept_until(store, lambda swept: swept.waiting == 2)
        first = await taken(store)
        assert first.is_suspect
        assert await taken_or_not(store, has_suspect=True) is None
        other = ({"poison", "innocent"} - {first.id}).pop()
        assert await status(store, other) is Status.QUEUED
        task = await store.show(other, owner=ADA)
        assert task is not None
        assert task.attempts == 1
        await store.finish(first, Status.SUCCEEDED, b"1", reason="", run_id="r")
        await swept_until(store, lambda swept: swept.waiting)
        assert (await taken(store)).id == other


async def test_a_delivered_task_whose_process_died_before_it_began_has_lost_no_attempt(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process(lease_seconds=SOON)
        await submitted(store, "a")
        assert await store.next() is not None
        await swept_until(store, lambda swept: swept.waiting)
        lease = await taken(store)
        assert (lease.attempts, lease.is_suspect) == (1, False)


async def test_a_task_is_tried_again_after_its_pause_and_not_before(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        lease = await taken(store)
        assert await store.back(lease, after_seconds=EVER, counts=True, problem=b'{"title":"x"}') is Word.DONE
        task = await store.show("a", owner=ADA)
        assert task is not None
        assert (task.status, task.document()["retry_at"] is not None) == (Status.QUEUED, True)
        swept = await store.sweep()
        assert (swept.waiting, swept.running, swept.delayed) == (0, 0, 1)
        await submitted(store, "b")
        lease = await taken(store)
        await store.back(lease, after_seconds=SOON, counts=True)
        await swept_until(store, lambda swept: swept.waiting)
        assert (await taken(store)).attempts == 2


async def test_a_task_that_is_given_back_has_lost_no_attempt(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        assert await store.back(await taken(store), after_seconds=0, counts=False) is Word.DONE
        lease = await taken(store)
        assert (lease.attempts, lease.is_suspect) == (1, False)


async def test_a_waiting_task_is_cancelled_at_once_and_a_running_one_by_its_worker(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a", "b")
        assert await store.cancel("b", owner=BOB) is Word.UNKNOWN
        assert await store.cancel("b", owner=ADA) is Word.CANCELLED
        assert await status(store, "b") is Status.CANCELLED
        lease = await taken(store)
        assert lease.id == "a"
        assert await taken_or_not(store) is None
        assert await store.cancel("a", owner=ADA) is Word.CANCELLING
        assert await store.renew([lease]) == [Word.CANCEL]
        # its process stops before it has heard of it
        assert await store.back(lease, after_seconds=0, counts=False) is Word.DONE
        assert await status(store, "a") is Status.CANCELLED
        assert await store.cancel("a", owner=ADA) is Word.CANCELLED


async def test_a_cancelled_task_whose_worker_has_died_is_not_begun_again(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process(lease_seconds=SOON)
        await submitted(store, "a")
        await taken(store)
        assert await store.cancel("a", owner=ADA) is Word.CANCELLING
        await swept_until(store, lambda swept: not swept.running)
        assert await status(store, "a") is Status.CANCELLED


async def test_nobody_else_sees_a_task(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        assert await store.show("a", owner=BOB) is None
        assert await store.heard("a", owner=BOB, after="0-0") is None
        assert await store.requeue("a", owner=BOB) is Word.UNKNOWN
        assert await store.listed(owner=BOB, dead=False, before=None, count=10) == ([], None)


async def test_a_list_is_paged_without_leaving_one_out_or_telling_one_twice(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        ids = [f"task-{number}" for number in range(7)]
        await submitted(store, *ids)
        found: list[str] = []
        before: int | None = None
        while True:
            page, before = await store.listed(owner=ADA, dead=False, before=before, count=3)
            found += [task.id for task in page]
            if before is None:
                break
        assert found == ids[::-1]


async def test_leases_outlive_a_redis_that_was_away_for_longer(redis: RedisServer) -> None:
    async with queue_in(redis) as queue:
        store = queue.process()
        await submitted(store, "a")
        lease = await taken(store)
        await store.sweep()
        # nobody has swept for so long that nobody can have renewed either
        back = queue.process(lease_seconds=SOON, away_seconds=0)
        await asyncio.sleep(2 * SOON)
        swept = await back.sweep()
        assert (swept.running, swept.lost) == (1, 0)
        assert await store.renew([lease]) == [Word.HELD]


async def test_a_redis_that_does_not_answer_is_unavailable_and_nothing_worse(installed: None) -> None:
    with RedisServer() as redis:
        store = TaskStore(lambda: redis.url, prefix="x:{y}", terms=TERMS, consumer="c")
        await store.sweep()
        redis.kill()
        for step in (store.sweep(), store.next(), store.show("a", owner=ADA)):
            with pytest.raises(Unavailable):
                await step
        redis.start()
        assert await store.next() is None
        await submitted(store, "a")
        assert (await taken(store)).id == "a"
        await store.close()
