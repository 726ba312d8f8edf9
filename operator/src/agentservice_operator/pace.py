"""Decides how long an agent rests one of whose objects has to be written over and over.

Two operators of different versions, a webhook that changes whatever it is given, a script that edits without end: each of
our writes calls for the next one. Nothing is given up, but it goes on slowly: each object is a bucket that leaks, and
an agent whose bucket is full waits until there is room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from agentservice_operator.manifest import Key

BURST: Final = 60
"""Writes of one object that need no rest. A person's edits, a rollout of many pods and a hand that deletes what is healed fit into it."""
SECONDS_A_WRITE: Final = 5.0
"""What goes on after that: one write in so many seconds."""


class Paces:
    """Remembers how often each object was written lately. `clock` gives monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_until: OrderedDict[tuple[Key, str], float] = OrderedDict()
        """When the bucket of an object will have leaked empty; in the order of the last writes."""

    def wrote(self, key: Key, objects: Iterable[str]) -> float:
        """Count one write of each of the agent's ``objects``; return the seconds to rest, 0 nearly always."""
        now = self._clock()
        rest = 0.0
        for name in objects:
            empty = max(now, self._full_until.pop((key, name), now)) + SECONDS_A_WRITE
            self._full_until[key, name] = empty
            rest = max(rest, empty - now - BURST * SECONDS_A_WRITE)
        self._forget(now)
        return rest

    def _forget(self, now: float) -> None:
        while self._full_until and next(iter(self._full_until.values())) <= now:
            self._full_until.popitem(last=False)
