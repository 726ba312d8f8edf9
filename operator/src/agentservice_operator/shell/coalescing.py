"""Decides when the event loop rests for a moment, so that what arrives meanwhile is taken in one go.

As network cards coalesce interrupts: while agents wait for a worker, dozens of requests are under way, and nobody waits for one
answer in particular. Taken one by one, each of them wakes the process alone, whose caches are cold by then, and drives whoever ran
on that core out of his: where the API server is beside us, that took a twelfth of the time of both. When no agent waits, nothing rests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

LONGEST_REST: Final = 0.020
"""Seconds."""
SHARE: Final = 2
"""A rest is at most this part of what a request takes now: a fast API server is never waited for."""
TURNS: Final = 6
"""Of the event loop between two rests: enough for an answer to become the next request."""
_MEMORY: Final = 16
"""Over about so many requests their time is averaged."""


class Coalescing:
    """Rests as long as ``is_waiting``. ``rest`` blocks for so many seconds. Use it inside the event loop."""

    def __init__(self, *, is_waiting: Callable[[], bool], rest: Callable[[float], None] = time.sleep) -> None:
        self._is_waiting = is_waiting
        self._rest = rest
        self._request_seconds = 0.0
        self._has_begun = False

    def saw(self, request_seconds: float) -> None:
        """Take note of how long a request took."""
        self._request_seconds += (request_seconds - self._request_seconds) / _MEMORY

    def begin(self) -> None:
        """Rest from now on, now and then, if anybody waits."""
        if not self._has_begun and self._is_waiting():
            self._has_begun = True
            asyncio.get_running_loop().call_soon(self._turn, 1)

    def _turn(self, number: int) -> None:
        if number == TURNS:
            if not self._is_waiting():
                self._has_begun = False
                return
            number = 0
            self._rest(min(LONGEST_REST, self._request_seconds / SHARE))
        asyncio.get_running_loop().call_soon(self._turn, number + 1)
