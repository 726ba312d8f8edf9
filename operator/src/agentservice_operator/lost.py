"""Decides which states of AgentLedgers that vanished are remembered, so that what was spent is not forgotten with them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from agentservice_operator.manifest import Key, Manifest

_REMEMBERED: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Remains:
    """The last seeded state that was seen, as `observe.trim_ledger` keeps it."""

    ledger: Manifest
    is_last: bool
    """Whether its deletion was told, so that nothing was written after it."""


class LostLedgers:
    """What was seen of each ledger that is now deleted or emptied; a bounded number, the oldest go first."""

    def __init__(self) -> None:
        self._remains: OrderedDict[Key, Remains] = OrderedDict()

    def saw(self, key: Key, old: Manifest | None, new: Manifest | None, *, told: bool) -> None:
        """Take a change of a ledger; ``told`` says of a deletion that an event told it, and not a list that lacked it."""
        if new is not None and _is_seeded(new):
            self._remains.pop(key, None)
        elif old is not None and _is_seeded(old):
            self._remains[key] = Remains(ledger=old, is_last=told or new is not None)
            self._remains.move_to_end(key)
            while len(self._remains) > _REMEMBERED:
                self._remains.popitem(last=False)

    def get(self, key: Key) -> Remains | None:
        """Return what was seen, None when the ledger stands."""
        return self._remains.get(key)

    def forget(self, key: Key) -> None:
        """It was restored, or nobody needs it any more."""
        self._remains.pop(key, None)


def _is_seeded(ledger: Manifest) -> bool:
    return bool(ledger["status"].get("seeded"))
