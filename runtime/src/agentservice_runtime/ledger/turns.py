"""Decides who asks again, and when, after a store that several processes share has said BUSY.

A settlement in this process calls the first of those who wait. What other processes settle nobody tells, so each waiter also
comes by itself; the more wait here, the more seldom, so that asking costs a process the same however many wait in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable
from typing import Final

POLL_SECONDS: Final = 0.05
WAITERS_PER_POLL: Final = 8
CALLED_AT_ONCE: Final = 2
"""A settlement mostly frees less than the next reservation needs."""


class Turns:
    """Those who wait in one process, in the order in which they came. Methods belong to one loop."""

    def __init__(self, *, random: Callable[[], float] = random.random) -> None:
        self._random = random
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def changed(self, seconds: float) -> None:
        """Return when it is worth asking again, after at most ``seconds``."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        patience = POLL_SECONDS * max(1.0, len(self._waiting) / WAITERS_PER_POLL) * (0.5 + self._random())
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(called, min(seconds, patience))
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(called)

    def call(self, count: int = CALLED_AT_ONCE) -> None:
        """Have the first so many come."""
        while count > 0 and self._waiting:
            called = self._waiting.popleft()
            if not called.done():
                called.set_result(None)
                count -= 1
