"""The order, pace and fairness of the work queue."""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentservice_operator.manifest import Key
from agentservice_operator.queue import EVENT_PACE, Backoff, Priority, Schedule, WorkQueue

A, B, C = (Key("ns", name) for name in "abc")


def schedule(**changes: Any) -> Schedule:
    arguments: dict[str, Any] = {"backoff": Backoff(base=1.0, ceiling=60.0), "random": lambda: 1.0}
    return Schedule(**(arguments | changes))


def test_a_key_waits_at_most_once() -> None:
    queue = schedule()
    for _ in range(5):
        queue.add(A, now=0)
    assert queue.depth == 1
    assert queue.take(now=0) == A
    assert queue.take(now=0) is None


def test_a_key_is_never_processed_twice_at_once() -> None:
    queue = schedule()
    queue.add(A, now=0)
    assert queue.take(now=0) == A
    queue.add(A, now=1)
    assert queue.take(now=1) is None
    queue.succeeded(A, now=2)
    assert queue.take(now=2) == A


def test_changed_objects_go_before_resyncs_and_each_in_order() -> None:
    queue = schedule()
    queue.add(A, now=0, priority=Priority.RESYNC)
    queue.add(B, now=0)
    queue.add(C, now=0)
    assert [queue.take(now=0) for _ in range(3)] == [B, C, A]


def test_a_resync_that_meets_a_change_becomes_urgent() -> None:
    queue = schedule()
    queue.add(B, now=0, priority=Priority.RESYNC)
    queue.add(A, now=0, priority=Priority.RESYNC)
    queue.add(A, now=0)
    queue.add(A, now=0, priority=Priority.RESYNC)
    assert [queue.take(now=0) for _ in range(3)] == [A, B, None]


def test_a_failed_key_waits_longer_each_time_and_starts_anew_after_a_success() -> None:
    queue = schedule()
    queue.add(A, now=0)
    now, delays = 0.0, []
    for _ in range(8):
        assert queue.take(now=now) == A
        delays.append(queue.failed(A, now=now))
        assert queue.take(now=now + delays[-1] - 0.01) is None
        now += delays[-1]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    queue.take(now=now)
    queue.succeeded(A, now=now)
    queue.add(A, now=now + 5)
    queue.take(now=now + 5)
    assert queue.failed(A, now=now + 5) == 1


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_jitter_takes_at_most_half(draw: float) -> None:
    delay = Backoff(base=1.0, ceiling=60.0).delay(3, random=lambda: draw)
    assert 2.0 <= delay <= 4.0


def test_a_failure_of_one_key_delays_no_other() -> None:
    queue = schedule()
    queue.add(A, now=0)
    queue.take(now=0)
    queue.failed(A, now=0)
    queue.add(B, now=0)
    assert queue.take(now=0) == B


def test_a_change_ends_the_backoff_but_not_within_a_second_of_the_failure() -> None:
    queue = schedule()
    queue.add(A, now=0)
    for now in (0.0, 1.0, 3.0, 7.0):
        assert queue.take(now=now) == A
        queue.failed(A, now=now)
    queue.add(A, now=7.1)
    assert queue.take(now=7.9) is None
    assert queue.take(now=7.0 + EVENT_PACE) == A


def test_a_key_that_writes_and_fails_does_not_spin_on_the_news_of_its_own_writes() -> None:
    queue = schedule()
    queue.add(A, now=0)
    now, runs = 0.0, 0
    while now < 60:
        if queue.take(now=now) is not None:
            runs += 1
            queue.add(A, now=now)  # the watch tells of what it has just written
            queue.failed(A, now=now)
            queue.add(A, now=now)
        now += 0.05
    assert runs <= 61


def test_the_earliest_of_several_wishes_wins_and_a_run_cancels_the_rest() -> None:
    queue = schedule()
    queue.add_after(A, 30, now=0)
    queue.add_after(A, 10, now=0)
    queue.add_after(A, 20, now=0)
    assert queue.next_due(now=0) == 10
    assert queue.take(now=9.9) is None
    assert queue.take(now=10) == A
    queue.succeeded(A, now=10)
    assert queue.next_due(now=10) is None
    assert queue.take(now=100) is None


def test_a_run_cancels_the_wish_for_a_later_one() -> None:
    queue = schedule()
    queue.add_after(A, 30, now=0)
    queue.add(A, now=1)
    queue.take(now=1)
    queue.succeeded(A, now=1)
    assert queue.next_due(now=1) is None
    assert queue.take(now=31) is None


def test_what_is_idle_is_forgotten() -> None:
    queue = schedule()
    for number in range(100):
        key = Key("ns", str(number))
        queue.add(key, now=0)
        queue.take(now=0)
        queue.succeeded(key, now=0)
    assert not queue._entries


def test_a_key_that_rests_runs_no_sooner_whatever_is_reported_of_it_and_then_once() -> None:
    queue = schedule()
    queue.add(A, now=0)
    queue.take(now=0)
    queue.add(A, now=0)
    queue.rest(A, 5, now=0)
    queue.succeeded(A, now=0)
    queue.add(A, now=1)
    queue.add(B, now=1)
    assert [queue.take(now=4.9), queue.take(now=4.9)] == [B, None]
    assert queue.take(now=5) == A
    queue.succeeded(A, now=5)
    queue.succeeded(B, now=5)
    assert queue.next_due(now=5) is None
    assert not queue._entries


def test_a_failure_does_not_end_a_rest() -> None:
    queue = schedule()
    queue.add(A, now=0)
    queue.take(now=0)
    queue.rest(A, 30, now=0)
    queue.failed(A, now=0)
    queue.add(A, now=10)
    assert queue.take(now=29) is None
    assert queue.take(now=30) == A


def test_ending_a_run_that_does_not_run_is_a_mistake() -> None:
    queue = schedule()
    queue.add(A, now=0)
    with pytest.raises(RuntimeError):
        queue.succeeded(A, now=0)


class Observer:
    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    def added(self) -> None:
        self.seen.append(("added", 0))

    def retried(self) -> None:
        self.seen.append(("retried", 0))

    def started(self, *, waited: float) -> None:
        self.seen.append(("started", waited))

    def finished(self, *, took: float) -> None:
        self.seen.append(("finished", took))


def test_the_observer_hears_how_long_keys_waited_and_took() -> None:
    observer = Observer()
    queue = schedule(observer=observer)
    queue.add(A, now=1)
    queue.add(A, now=2)
    queue.take(now=4)
    assert queue.running(now=6) == {A: 2}
    queue.failed(A, now=9)
    assert observer.seen == [("added", 0), ("started", 3), ("retried", 0), ("finished", 5)]


class QueueMachine(RuleBasedStateMachine):
    """Against a model: which keys owe a run, and since when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queue = schedule(random=random.Random(0).random)
        self.running: set[Key] = set()
        self.owed: set[Key] = set()  # added or failed since the start of their last run

    keys = st.sampled_from([A, B, C])

    @rule(key=keys, priority=st.sampled_from(list(Priority)))
    def add(self, key: Key, priority: Priority) -> None:
        self.queue.add(key, now=self.now, priority=priority)
        self.owed.add(key)

    @rule(key=keys, seconds=st.floats(0, 100))
    def add_after(self, key: Key, seconds: float) -> None:
        self.queue.add_after(key, seconds, now=self.now)
        self.owed.add(key)

    @rule()
    def take(self) -> None:
        key = self.queue.take(now=self.now)
        if key is not None:
            assert key not in self.running
            assert key in self.owed
            self.running.add(key)
            self.owed.discard(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans(), rests=st.sampled_from([0.0, 0.0, 5.0, 300.0]))
    def finish(self, data: Any, fails: bool, rests: float) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        if rests:
            self.queue.rest(key, rests, now=self.now)
        if fails:
            self.queue.failed(key, now=self.now)
            self.owed.add(key)
        else:
            self.queue.succeeded(key, now=self.now)

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_owed_is_lost(self) -> None:
        if self.owed - self.running:
            assert self.queue.next_due(now=self.now) is not None

    @invariant()
    def it_knows_who_runs(self) -> None:
        assert set(self.queue.running(now=self.now)) == self.running

    def teardown(self) -> None:
        for key in list(self.running):
            self.queue.succeeded(key, now=self.now)
        self.running.clear()
        for _ in range(20):
            due = self.queue.next_due(now=self.now)
            if due is None:
                break
            self.now += due
            key = self.queue.take(now=self.now)
            if key is not None:
                self.owed.discard(key)
                self.queue.succeeded(key, now=self.now)
        assert not self.owed


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def work_queue() -> WorkQueue:
    loop = asyncio.get_running_loop()
    return WorkQueue(clock=loop.time, random=lambda: 0.5, backoff=Backoff(base=0.01, ceiling=0.02))


async def test_workers_run_side_by_side_but_no_more_than_allowed() -> None:
    queue, running, most, done = work_queue(), 0, 0, 0

    async def process(_: Key) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        done += 1
        if done == 20:
            queue.stop()

    for number in range(20):
        queue.add(Key("ns", str(number)))
    await asyncio.wait_for(queue.run(process, workers=4), 5)
    assert (most, done) == (4, 20)


async def test_an_idle_worker_takes_what_is_added_later_and_what_falls_due() -> None:
    queue, seen = work_queue(), list[Key]()

    async def process(key: Key) -> float | None:
        seen.append(key)
        if seen.count(A) == 2:
            queue.stop()
        return 0.02 if key == A else None

    task = asyncio.create_task(queue.run(process, workers=2))
    await asyncio.sleep(0.005)
    queue.add(B)
    queue.add_after(A, 0.01)
    await asyncio.wait_for(task, 5)
    assert seen == [B, A, A]


async def test_an_exception_puts_the_key_back_and_no_worker_dies_of_it() -> None:
    queue, tries = work_queue(), 0

    async def process(_: Key) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise RuntimeError("not yet")
        queue.stop()

    queue.add(A)
    await asyncio.wait_for(queue.run(process, workers=1), 5)
    assert tries == 4
    assert queue.failures(A) == 0


async def test_stopping_finishes_what_runs_and_starts_nothing_more() -> None:
    queue, started, finished = work_queue(), list[Key](), list[Key]()

    async def process(key: Key) -> None:
        started.append(key)
        queue.stop()
        await asyncio.sleep(0.01)
        finished.append(key)

    queue.add(A)
    queue.add(B)
    await asyncio.wait_for(queue.run(process, workers=1), 5)
    assert started == finished == [A]
