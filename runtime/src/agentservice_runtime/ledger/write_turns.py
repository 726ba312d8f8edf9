"""Decides whose turn it is to write an object that many write, so that few of their writes are in vain.

The holders that a ledger lists stand in a ring. After a write its writer's neighbour may write at once, the next one when
that one has let a write's time pass twice, and so on: who writes is seen by all, so no two begin at the same moment, and nobody
waits for more than the others' turns. Long after the last write it is everybody's turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agentservice_api.budget import LedgerStatus

FIRST_GUESS: Final = 0.03
"""Seconds that a write takes, before one was made."""
PART: Final = 2.0
"""Of the time that a write takes: so long somebody waits whether his neighbour writes. A write that was begun in time is seen by then,
also where many writes in vain have made them slow."""
MOST_SECONDS: Final = 1.5
"""After so long it is everybody's turn, however many there are."""


class Turns:
    """One writer's view of the ring. ``random`` gives numbers in [0, 1)."""

    def __init__(self, *, random: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.me = ""
        """Its name in the ring; who is not listed has his place by chance."""
        self._random = random
        self._monotonic = monotonic
        self._took = FIRST_GUESS
        self._last_write = -MOST_SECONDS
        self._rank = 0.0
        self._slots = 1

    def saw(self, before: LedgerStatus | None, after: LedgerStatus) -> None:
        """Learn from a new state who wrote it."""
        known = {(hand.holder, hand.key): hand.seq for hand in before.holders} if before is not None else {}
        ring = sorted({hand.holder for hand in after.holders})
        writer = next((hand.holder for hand in after.holders if known.get((hand.holder, hand.key)) != hand.seq), None)
        self._slots = max(1, len(ring))
        self._last_write = self._monotonic()
        if writer is None or self.me not in ring:
            self._rank = self._random() * self._slots
        else:
            self._rank = float((ring.index(self.me) - ring.index(writer) - 1) % self._slots)

    def wait(self) -> float:
        """Return how many seconds it is until this one's turn; at most 0 when it is."""
        slot = min(PART * self._took, MOST_SECONDS / self._slots)
        return self._last_write + self._rank * slot - self._monotonic()

    def took(self, seconds: float) -> None:
        """Learn how long a write takes."""
        self._took += 0.2 * (seconds - self._took)
