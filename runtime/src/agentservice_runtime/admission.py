"""Decides how many runs this pod does at once; more wait briefly, then are told to come again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from agentservice_runtime.errors import Category, Problem, ServiceError

WAIT_SECONDS: Final = 2.0
"""How long a request may wait for its turn: long enough for a burst, too short to pile up."""

OVERLOADED: Final = Problem(
    status=503,
    title="Overloaded",
    detail="This pod runs as many requests as spec.runtime.concurrencyPerPod allows. Send the request again.",
    category=Category.OVERLOADED,
    retryable=True,
    retry_after=1,
)


class Admission:
    """A counting gate with a bounded queue before it: at most as many wait as may run."""

    def __init__(
        self, *, limit: int, wait_seconds: float = WAIT_SECONDS, waits: Callable[[int], None] | None = None
    ) -> None:
        """``waits`` is told of each request that begins (1) or ends (-1) to wait."""
        self._limit = limit
        self._wait_seconds = wait_seconds
        self._free = asyncio.Semaphore(limit)
        self._waiting = 0
        self._told = waits or _untold

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Hold one of the slots. Raises ServiceError (503) when none gets free in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        if self._waiting >= self._limit:
            raise ServiceError(OVERLOADED)
        self._waiting += 1
        self._told(1)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise ServiceError(OVERLOADED) from None
        finally:
            self._waiting -= 1
            self._told(-1)


def _untold(_change: int) -> None:
    """Nobody wants to know."""
