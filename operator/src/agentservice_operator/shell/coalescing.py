"""Decides when the event loop rests for a moment, so that what arrives meanwhile is taken in one go.

As network cards coalesce interrupts: while agents wait for a worker, dozens of requests are under way, and nobody waits for one
answer in particular. Taken one by one, each of them wakes the process alone, whose caches are cold by then, and drives whoever ran
on that core out of his: where the API server is beside us, that took a twelfth of the time of both. When no agent waits, nothing rests.

Nor does anything rest that could go on: a watch's events go through several turns of the loop each, one after the other, and after
rests at every few turns the process knew of an agent only seconds after it was made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

LONGEST_REST: Final = 0.025
"""Seconds."""
SHARE: Final = 2
"""A rest is at most this part of what a request takes now: a fast API server is never waited for."""
QUIET_SECONDS: Final = 40e-6
"""A turn of the event loop that took less had nothing to do: an empty one takes less than 5 µs, one in which something is done mostly more than 100."""
QUIET_TURNS: Final = 4
"""So many in a row, and the loop has come to its end for now."""
MOST_TURNS: Final = 100
"""Without a rest, also where a turn never takes as little: beside others, the process must not keep a core busy with looking."""
_MEMORY: Final = 16
"""Over about so many requests their time is averaged."""


class Coalescing:
    """Rests as long as ``is_waiting``, each time that the event loop has nothing left to do. Use it inside the event loop.

    ``rest`` blocks for so many seconds; ``clock`` gives monotonic seconds, to the microsecond.
    """

    def __init__(
        self,
        *,
        is_waiting: Callable[[], bool],
        rest: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._is_waiting = is_waiting
        self._rest = rest
        self._clock = clock
        self._request_seconds = 0.0
        self._has_begun = False

    def saw(self, request_seconds: float) -> None:
        """Take note of how long a request took."""
        self._request_seconds += (request_seconds - self._request_seconds) / _MEMORY

    def begin(self) -> None:
        """Rest from now on, now and then, if anybody waits."""
        if not self._has_begun and self._is_waiting():
            self._has_begun = True
            self._go_on(turns=0, quiet=0)

    def _go_on(self, *, turns: int, quiet: int) -> None:
        asyncio.get_running_loop().call_soon(self._turn, self._clock(), turns + 1, quiet)

    def _turn(self, since: float, turns: int, quiet: int) -> None:
        quiet = quiet + 1 if self._clock() - since < QUIET_SECONDS else 0
        if quiet == QUIET_TURNS or turns == MOST_TURNS:
            if not self._is_waiting():
                self._has_begun = False
                return
            turns = quiet = 0
            self._rest(min(LONGEST_REST, self._request_seconds / SHARE))
        self._go_on(turns=turns, quiet=quiet)
