"""Decides how a process works off the queue: when it takes a task, how it keeps its lease, what becomes of the run's end.

A lease is lost only by Redis' word: while Redis is away, runs go on, and their ends are written when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from agentservice_runtime.drain import Drain
from agentservice_runtime.errors import Category, Problem
from agentservice_runtime.logs import FIELDS, LOGGER
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.tasks.metrics import TaskMetrics
from agentservice_runtime.tasks.store import BLOCK_SECONDS, Lease, TaskStore, Unavailable, Word, pause_seconds
from agentservice_runtime.tasks.task import Reason, Status

BEAT_SECONDS: Final = 1.0
"""Between two renewals of all leases of a process, or less with a short lease. A cancelled task is heard of then too."""
AWAY_SECONDS: Final = 0.5
"""Until a Redis that could not be asked is asked again."""
LOOK_SECONDS: Final = 0.1
"""Between two looks at whether all is over, once no more tasks are begun."""
BUSY_SECONDS: Final = 1.0
"""Until a task that this pod had no room for is taken again."""


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run has ended: with an answer, as JSON, or with a problem."""

    answer: bytes = b""
    problem: Problem | None = None
    was_attempt: bool = True
    """Whether anything was done: a task whose steps cannot be read now waits for them without one."""


class Work(Protocol):
    """What runs the tasks."""

    def record(self, lease: Lease) -> RunRecord:
        """Return the record of a task's run."""
        ...

    async def run(self, lease: Lease, record: RunRecord) -> End:
        """Run to the end. Never raises but when it is cancelled."""
        ...

    async def ended(self, lease: Lease, status: Status, problem: Problem | None) -> None:
        """Hear of the task's end, once it is written. Never raises."""
        ...


@dataclass(kw_only=True)
class _Held:
    lease: Lease
    record: RunRecord
    task: asyncio.Task[None] | None = None
    is_lost: bool = False
    has_run: bool = False
    """Whether what is left to do is to write down how it ended."""


class Worker:
    """The worker of one process. It belongs to one loop."""

    def __init__(
        self,
        store: TaskStore,
        *,
        work: Work,
        concurrency: int,
        drain: Drain,
        metrics: TaskMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` gives seconds since the epoch, as Redis' own does."""
        self._store = store
        self._work = work
        self._drain = drain
        self._metrics = metrics
        self._clock = clock
        self._free = asyncio.Semaphore(concurrency)
        self._held: dict[str, _Held] = {}
        self._is_closing = False
        self._loops: list[asyncio.Task[None]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._logger = logging.getLogger(f"{LOGGER}.tasks")

    def start(self) -> None:
        """Work from now on, until the process drains."""
        self._loops = [
            asyncio.create_task(self._forever(self._take), name="tasks-take"),
            asyncio.create_task(self._forever(self._beat), name="tasks-beat"),
        ]

    async def finish(self, seconds: float) -> None:
        """Wait until all that has begun has ended, ``seconds`` at most, and give back what has not. Never raises."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """Give back what runs, and stop. Never raises."""
        self._is_closing = True
        if self._loops:
            # a task that Redis hands out in this moment would else be missing until its lease has ended
            await asyncio.wait(self._loops[:1], timeout=BLOCK_SECONDS + AWAY_SECONDS)
        runs = [held.task for held in self._held.values() if held.task is not None]
        for held in self._held.values():
            if held.task is not None and not held.has_run:
                held.task.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while not self._is_closing or step == self._beat:
            try:
                await step()
            except Unavailable:
                await asyncio.sleep(AWAY_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  not in step with others
            except Exception:
                self._logger.exception("the queue's worker failed and goes on")
                await asyncio.sleep(AWAY_SECONDS)

    async def _take(self) -> None:
        """Begin one task, if there is one."""
        await self._free.acquire()
        begun = False
        try:
            if self._drain.is_draining:
                await asyncio.sleep(LOOK_SECONDS)
                return
            found = await self._store.next()
            if found is None:
                return
            entry, id = found
            has_suspect = any(held.lease.is_suspect for held in self._held.values())
            token = secrets.token_hex(12)
            lease = await self._store.begin(id, entry, token=token, has_suspect=has_suspect)
            if lease is None:
                return
            self._metrics.begun()
            held = _Held(lease=lease, record=self._work.record(lease))
            self._held[token] = held
            self._idle.clear()
            held.task = asyncio.create_task(self._carry_out(held), name="task")
            begun = True
        finally:
            if not begun:
                self._free.release()

    async def _beat(self) -> None:
        """Renew all leases."""
        await asyncio.sleep(min(BEAT_SECONDS, self._store.terms.lease_seconds / 4))
        leases = [held.lease for held in self._held.values()]
        if not leases:
            return
        words = await self._store.renew(leases)
        for lease, word in zip(leases, words, strict=True):
            held = self._held.get(lease.token)
            if held is None:
                continue
            if word is Word.LOST and not held.has_run:
                held.is_lost = True
                if held.task is not None:
                    held.task.cancel()
            elif word is Word.CANCEL:
                held.record.cancellation.cancel()

    async def _carry_out(self, held: _Held) -> None:
        try:
            end = await self._run(held)
            held.has_run = True
            if held.is_lost:
                self._logger.warning("a task's lease was lost: another process has it", extra=_about(held))
            elif end is None or self._is_stopped(end):
                await self._return(held)
            else:
                await self._settle(held, end)
        except Exception:
            # its lease ends, and another process takes it
            self._logger.exception("a task could not be ended", extra=_about(held))
        finally:
            del self._held[held.lease.token]
            self._free.release()
            if not self._held:
                self._idle.set()

    async def _run(self, held: _Held) -> End | None:
        try:
            return await self._work.run(held.lease, held.record)
        except asyncio.CancelledError:
            return None

    def _is_stopped(self, end: End) -> bool:
        problem = end.problem
        return self._is_closing and problem is not None and problem.category is Category.OVERLOADED

    async def _settle(self, held: _Held, end: End) -> None:
        problem, lease = end.problem, held.lease
        if problem is None:
            await self._finish(held, Status.SUCCEEDED, end.answer, reason="")
        elif not end.was_attempt:
            after = problem.retry_after or BUSY_SECONDS
            await self._until_done(held, lambda: self._store.back(lease, after_seconds=after, counts=False))
        elif problem.category is Category.CANCELLED:
            await self._finish(held, Status.CANCELLED, problem.body(), reason="", problem=problem)
        elif problem.category is Category.OVERLOADED and not held.record.is_run:
            # this pod had no room: that was no attempt
            await self._until_done(held, lambda: self._store.back(lease, after_seconds=BUSY_SECONDS, counts=False))
        elif not problem.retryable:
            await self._finish(held, Status.FAILED, problem.body(), reason=Reason.FAILURE, problem=problem)
        elif lease.attempts >= self._store.terms.max_attempts:
            await self._finish(held, Status.FAILED, problem.body(), reason=Reason.ATTEMPTS, problem=problem)
        else:
            self._metrics.retried(category=problem.category)
            after = pause_seconds(lease.attempts, least=problem.retry_after or 0.0)
            body = problem.body()
            await self._until_done(
                held, lambda: self._store.back(lease, after_seconds=after, counts=True, problem=body)
            )

    async def _finish(
        self, held: _Held, status: Status, document: bytes, *, reason: str, problem: Problem | None = None
    ) -> None:
        lease, run_id = held.lease, held.record.run_id
        done = await self._until_done(
            held, lambda: self._store.finish(lease, status, document, reason=reason, run_id=run_id)
        )
        if done:
            self._metrics.finished(status, seconds=self._clock() - lease.created / 1000, reason=reason)
            await self._work.ended(lease, status, problem)

    async def _return(self, held: _Held) -> None:
        self._metrics.returned()
        try:
            await self._store.back(held.lease, after_seconds=0, counts=False)
        except Unavailable:
            self._logger.warning("a task could not be given back: its lease ends by itself", extra=_about(held))

    async def _until_done(self, held: _Held, step: Callable[[], Awaitable[Word]]) -> bool:
        """Do a step in Redis, however long it is away; return whether it was done. False: the lease is another's."""
        while True:
            try:
                is_done = await step() is Word.DONE
            except Unavailable:
                if self._is_closing:
                    self._logger.warning("a task's end was not written: Redis is away", extra=_about(held))
                    return False
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if not is_done:
                self._logger.warning("a task's end was not written: another process has it", extra=_about(held))
            return is_done


def _about(held: _Held) -> dict[str, dict[str, object]]:
    return {FIELDS: {"task_id": held.lease.id, "run_id": held.record.run_id, "attempt": held.lease.attempts}}
