"""Decides which key is reconciled next, when, and how often at most.

The idea is client-go's rate-limited work queue with priorities. A key waits at most once, however often it is added;
it is never handed to two workers at once, and what is added while it runs makes it run once more afterwards. Changed
objects go before periodic resyncs, and `turns` says in which order. A key that failed waits for its own exponential backoff with jitter, and only it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Protocol

from agentservice_operator.manifest import Key
from agentservice_operator.turns import Turns

EVENT_PACE = 1.0
"""Seconds that a key rests at least after a failure, however many changes are reported of it."""


class Priority(IntEnum):
    """Lower goes first."""

    CHANGED = 0
    """Something happened to the object or to what belongs to it."""
    RESYNC = 1
    """Nothing is known to have happened: periodic looks, and the unchanged objects at a start."""


class QueueObserver(Protocol):
    """Sees what happens to keys, in the terms of controller-runtime's metrics. Seconds throughout."""

    def added(self) -> None:
        """A key that was not waiting has begun to wait."""

    def retried(self) -> None:
        """A key was put back because it failed."""

    def started(self, *, waited: float) -> None:
        """A worker took a key that had waited so long since it was due."""

    def finished(self, *, took: float) -> None:
        """A worker is done with a key."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Seconds after the n-th failure in a row: `base` * 2^(n-1) up to `ceiling`, of which 50 to 100 % by chance.

    Only what the API server fails at is a failure, so `ceiling` is how long agents may stay wrong after it is well again.
    """

    base: float = 0.25
    ceiling: float = 60.0

    def delay(self, failures: int, *, random: Callable[[], float]) -> float:
        return min(self.ceiling, self.base * 2.0 ** min(failures - 1, 32)) * (0.5 + random() / 2)


@dataclass(slots=True)
class _Entry:
    """What is known of one key. It exists as long as anything of it is not at its default."""

    ready: Priority | None = None
    ready_since: float = 0.0
    due: float | None = None
    due_priority: Priority = Priority.RESYNC
    running_since: float | None = None
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Schedule:
    """The queue without waiting: every method takes the time `now` (monotonic seconds) and returns at once."""

    backoff: Backoff
    random: Callable[[], float]
    observer: QueueObserver | None = None
    _entries: dict[Key, _Entry] = field(default_factory=dict[Key, _Entry])
    # Turns and heap hold hints, checked against the entry when they surface: a key may be stale in them, never missing.
    _ready: dict[Priority, Turns] = field(default_factory=lambda: {priority: Turns() for priority in Priority})
    _delayed: list[tuple[float, int, Key]] = field(default_factory=list[tuple[float, int, Key]])
    _sequence: count[int] = field(default_factory=count)

    def add(self, key: Key, *, now: float, priority: Priority = Priority.CHANGED) -> None:
        """Due at once. While it runs: due once more when it is done. A waiting key only ever gains urgency.

        A key that has just failed is due at the end of its backoff or `EVENT_PACE`, whichever is sooner: a run that writes
        something and then fails is told of its own write, and must not thereby run without end. One that rests is due then.
        """
        entry = self._entries.setdefault(key, _Entry())
        if now < entry.not_before:
            self.add_after(key, entry.not_before - now, now=now, priority=priority)
            return
        if entry.ready is not None and entry.ready <= priority:
            return
        if entry.ready is None:
            entry.ready_since = now
            if self.observer is not None:
                self.observer.added()
        entry.ready = priority
        if entry.running_since is None:
            self._ready[priority].push(key)

    def add_after(self, key: Key, seconds: float, *, now: float, priority: Priority = Priority.CHANGED) -> None:
        """Due in `seconds`. The earliest of several wins; whatever makes the key run sooner cancels it."""
        if seconds <= 0:
            self.add(key, now=now, priority=priority)
            return
        entry = self._entries.setdefault(key, _Entry())
        if entry.due is not None and entry.due <= now + seconds:
            return
        entry.due = now + seconds
        entry.due_priority = priority
        heapq.heappush(self._delayed, (entry.due, next(self._sequence), key))

    def take(self, *, now: float) -> Key | None:
        """The most urgent key that is due and not running, now running; None when there is none."""
        self._ripen(now)
        key = self._head()
        if key is None:
            return None
        entry = self._entries[key]
        assert entry.ready is not None, "what is at the head is ready"  # noqa: S101
        self._ready[entry.ready].pop()
        entry.ready = None
        entry.due = None  # the run will say anew when it wants the next one
        entry.running_since = now
        if self.observer is not None:
            self.observer.started(waited=max(0.0, now - entry.ready_since))
        return key

    def succeeded(self, key: Key, *, now: float) -> None:
        """The run is over and went well: its failures are forgotten."""
        self._entries[key].failures = 0
        self._end(key, now)

    def rest(self, key: Key, seconds: float, *, now: float) -> None:
        """No other run of the key begins within so many seconds, whatever is reported of it. For a key that runs."""
        entry = self._entries[key]
        entry.not_before = max(entry.not_before, now + seconds)

    def failed(self, key: Key, *, now: float) -> float:
        """The run is over and failed: due again after its backoff, whose seconds are returned."""
        entry = self._entries[key]
        entry.failures += 1
        delay = self.backoff.delay(entry.failures, random=self.random)
        if self.observer is not None:
            self.observer.retried()
        entry.not_before = max(entry.not_before, now + min(delay, EVENT_PACE))
        pending, entry.ready = entry.ready, None
        self.add_after(key, min(delay, EVENT_PACE) if pending is not None else delay, now=now)
        self._end(key, now)
        return delay

    def next_due(self, *, now: float) -> float | None:
        """Seconds until a delayed key may be taken; 0 when one waits already; None when nothing is scheduled."""
        self._ripen(now)
        if self._head() is not None:
            return 0.0
        while self._delayed:
            due, _, key = self._delayed[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                return max(0.0, due - now)
            heapq.heappop(self._delayed)
        return None

    @property
    def depth(self) -> int:
        """How many keys could be taken now."""
        return sum(1 for entry in self._entries.values() if entry.ready is not None and entry.running_since is None)

    def failures(self, key: Key) -> int:
        """Failures in a row of the key."""
        entry = self._entries.get(key)
        return entry.failures if entry is not None else 0

    def running(self, *, now: float) -> dict[Key, float]:
        """The keys that run, and for how many seconds."""
        return {
            key: now - entry.running_since for key, entry in self._entries.items() if entry.running_since is not None
        }

    def _head(self) -> Key | None:
        for priority, turns in self._ready.items():

            def waits(key: Key, priority: Priority = priority) -> bool:
                entry = self._entries.get(key)
                return entry is not None and entry.ready is priority and entry.running_since is None

            key = turns.first(waits)
            if key is not None:
                return key
        return None

    def _ripen(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                entry.due = None
                self.add(key, now=now, priority=entry.due_priority)

    def _end(self, key: Key, now: float) -> None:
        entry = self._entries[key]
        if entry.running_since is None:
            raise RuntimeError(f"{key} does not run: a run ends once")
        if self.observer is not None:
            self.observer.finished(took=max(0.0, now - entry.running_since))
        entry.running_since = None
        pending = entry.ready
        if pending is not None and now < entry.not_before:
            entry.ready = None
            self.add_after(key, entry.not_before - now, now=now, priority=pending)
        elif pending is not None:
            self._ready[pending].push(key)
        elif entry.due is None and entry.failures == 0 and now >= entry.not_before:
            del self._entries[key]


class WorkQueue:
    """The queue with waiting: workers take keys from a `Schedule` until it is stopped.

    `clock` gives monotonic seconds, `random` [0, 1).
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        backoff: Backoff | None = None,
        observer: QueueObserver | None = None,
    ) -> None:
        self._clock = clock
        self._schedule = Schedule(backoff=backoff or Backoff(), random=random, observer=observer)
        self._idle: list[asyncio.Future[None]] = []
        self._stopping = False

    def add(self, key: Key, *, priority: Priority = Priority.CHANGED) -> None:
        """Due at once; see `Schedule.add`. Never blocks."""
        self._schedule.add(key, now=self._clock(), priority=priority)
        self._wake()

    def add_after(self, key: Key, seconds: float, *, priority: Priority = Priority.CHANGED) -> None:
        """Due in `seconds`; see `Schedule.add_after`."""
        self._schedule.add_after(key, seconds, now=self._clock(), priority=priority)
        self._wake()

    def rest(self, key: Key, seconds: float) -> None:
        """See `Schedule.rest`; for the process that runs the key."""
        self._schedule.rest(key, seconds, now=self._clock())

    @property
    def depth(self) -> int:
        """How many keys could be taken now."""
        return self._schedule.depth

    @property
    def is_waiting(self) -> bool:
        """Whether any key could be taken now. After a stop none can."""
        return not self._stopping and self._schedule.next_due(now=self._clock()) == 0.0

    def running(self) -> dict[Key, float]:
        """The keys that run, and for how many seconds."""
        return self._schedule.running(now=self._clock())

    def failures(self, key: Key) -> int:
        """Failures in a row of the key."""
        return self._schedule.failures(key)

    async def run(self, process: Callable[[Key], Awaitable[float | None]], *, workers: int) -> None:
        """Process keys with so many workers until `stop`; then return when the last running one is done.

        `process` returns the seconds after which it wants to be called again, or None; an exception puts the key back
        with backoff. Reporting the exception is the business of `process`.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(process), name=f"worker {number}")

    def stop(self) -> None:
        """Hand out no more keys. What runs, runs to its end."""
        self._stopping = True
        for future in self._idle:
            if not future.done():
                future.set_result(None)

    async def _work(self, process: Callable[[Key], Awaitable[float | None]]) -> None:
        while (key := await self._next()) is not None:
            try:
                after = await process(key)
            except Exception:
                self._schedule.failed(key, now=self._clock())
            else:
                self._schedule.succeeded(key, now=self._clock())
                if after is not None:
                    self._schedule.add_after(key, after, now=self._clock())

    async def _next(self) -> Key | None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            now = self._clock()
            key = self._schedule.take(now=now)
            if key is not None:
                return key
            future: asyncio.Future[None] = loop.create_future()
            due = self._schedule.next_due(now=now)
            timer = loop.call_later(due, _resolve, future) if due is not None else None
            self._idle.append(future)
            try:
                await future
            finally:
                self._idle.remove(future)
                if timer is not None:
                    timer.cancel()
        return None

    def _wake(self) -> None:
        for future in self._idle:
            if not future.done():
                future.set_result(None)
                return


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
