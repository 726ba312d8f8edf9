"""Decides which answers no longer count: those whose run began before a purge that they fall under.

A purge deletes nothing. It is one line in a list that every process reads: all answers, those with a tag, or those
whose message begins so. Each has a number, and each answer the number at which its run began, so a run that was under
way during a purge does not bring the old answer back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ALL: Final = "all"
MAX_PREFIX: Final = 4096
"""Characters."""
KEPT: Final = 256
"""So many purges are told apart; one more and everything is purged."""


def of_tag(tag: str) -> str:
    """Return the purge of all answers with this tag."""
    return f"tag:{_hash(tag)}"


def of_prefix(prefix: str) -> str:
    """Return the purge of all answers to messages that begin so."""
    return f"prefix:{len(prefix)}:{_hash(prefix)}"


@dataclass(frozen=True, kw_only=True)
class Purges:
    """The purges that a process knows."""

    version: str = ""
    """``epoch:number``. Another epoch is another life of the list, which may have forgotten purges."""
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])

    def counts(self, of: str, *, message: str, tags: frozenset[str]) -> bool:
        """Tell whether an answer still counts. ``of`` is the version when its run began."""
        epoch, _, number = of.rpartition(":")
        if epoch != self.version.rpartition(":")[0]:
            return False
        return int(number) >= max((n for purge, n in self.numbers.items() if _falls(purge, message, tags)), default=0)


def _falls(purge: str, message: str, tags: frozenset[str]) -> bool:
    kind, _, rest = purge.partition(":")
    if kind == "prefix":
        length, _, expected = rest.partition(":")
        return _hash(message[: int(length)]) == expected
    return kind == ALL or purge in tags


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
