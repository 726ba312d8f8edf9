"""Decides how one attempt of a task reads and writes its steps, and what becomes of it when the database is away.

A step that could not be written is written for a while longer: what was paid for is worth waiting. Then the attempt ends as
one that may be made again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from agentservice_runtime.errors import Category, Problem, ServiceError
from agentservice_runtime.logs import FIELDS, LOGGER
from agentservice_runtime.outage import Outage
from agentservice_runtime.postgres import Away
from agentservice_runtime.steps.store import Lost, StepStore

T = TypeVar("T")

PATIENCE_SECONDS: Final = 30.0
"""How long a step under way waits for a database that is away."""
AGAIN_SECONDS: Final = 0.5
"""Until a database that could not be asked is asked again."""
SWEEP_SECONDS: Final = 600.0

UNAVAILABLE: Final = Problem(
    status=503,
    title="Steps unavailable",
    detail="The task's steps cannot be read or written: the database of spec.postgres does not answer. It is tried again.",
    category=Category.EXTERNAL_SERVICE,
    retryable=True,
    retry_after=5,
)
LOST: Final = Problem(
    status=503,
    title="Task taken over",
    detail="Another process works on this task.",
    category=Category.OVERLOADED,
    retryable=True,
    retry_after=5,
)


class Journals:
    """The journals of one agent's tasks. It belongs to one loop. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        store: StepStore,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._outage = Outage(
            "steps",
            away="the database of the tasks' steps cannot be used: tasks that want them wait",
            back="the database of the tasks' steps answers again",
        )

    async def open(self, id: str, *, created: int, fence: int) -> Journal:
        """Return what was written of a task, for the lease that began at ``fence``. Raises ServiceError at once (503).

        ``created``, in ms since the epoch, tells the task from one of the same id that was forgotten.
        """
        task = f"{id}:{created}"
        try:
            known = await self.store.open(task, fence=fence)
        except Away as error:
            self._outage.tell(error)
            raise ServiceError(UNAVAILABLE) from None
        except Lost:
            raise ServiceError(LOST) from None
        self._outage.tell(None)
        if known:
            about = {"task_id": id, "steps": len(known)}
            logging.getLogger(f"{LOGGER}.steps").info("a task goes on after its last step", extra={FIELDS: about})
        return Journal(self, task=task, fence=fence, known=known)

    async def forget(self, id: str, *, created: int) -> None:
        """Remove what was written of a task; if that cannot be done now, it ends by itself. Never raises."""
        with suppress(Away):
            await self.store.forget(f"{id}:{created}")

    async def sweep_for_ever(self) -> None:
        """Remove what has outlived its time, now and then."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * (0.5 + random.random()))  # noqa: S311  not a secret
            with suppress(Away):
                await self.store.sweep()

    async def until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do something in the database, also when it is away for a while. Raises ServiceError (503)."""
        deadline = self._clock() + self._patience_seconds
        while True:
            try:
                done = await step()
            except Lost:
                raise ServiceError(LOST) from None
            except Away as error:
                self._outage.tell(error)
                if self._clock() >= deadline:
                    raise ServiceError(UNAVAILABLE) from None
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._outage.tell(None)
                return done

    async def close(self) -> None:
        """Close all connections. Never raises."""
        await self.store.close()


class Journal:
    """The steps of one task, for one lease. A step is named by its model request's number in the run, 1 being the first, and a tool's call."""

    def __init__(self, journals: Journals, *, task: str, fence: int, known: dict[tuple[int, str], str]) -> None:
        self._journals = journals
        self._store = journals.store
        self._task = task
        self._fence = fence
        self._known = known

    async def find(self, number: int, *, call: str = "", digest: str) -> bytes | None:
        """Return what was written of this step, None when that was another or nothing. Raises ServiceError (503)."""
        if self._known.get((number, call)) != digest:
            return None
        return await self._journals.until_done(lambda: self._store.read(self._task, number=number, call=call))

    async def write(self, number: int, *, call: str = "", digest: str, body: bytes) -> None:
        """Write a step. Raises ServiceError (503)."""

        def write() -> Awaitable[None]:
            return self._store.write(self._task, fence=self._fence, number=number, call=call, digest=digest, body=body)

        await self._journals.until_done(write)

    async def discard(self, number: int) -> None:
        """Remove the steps from ``number`` on, if there are any. Raises ServiceError (503)."""
        if any(known >= number for known, _ in self._known):
            self._known = {step: digest for step, digest in self._known.items() if step[0] < number}
            await self._journals.until_done(lambda: self._store.discard(self._task, fence=self._fence, number=number))
