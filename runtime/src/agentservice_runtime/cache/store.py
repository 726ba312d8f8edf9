"""Decides how Redis is spoken with: each step is one script, waited for so long, and a Redis that fails is left alone for a while.

Nothing here is needed for an answer: whoever meets `Unavailable` does without.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agentservice_runtime.cache.outcome import Unavailable
from agentservice_runtime.cache.purges import KEPT, Purges
from agentservice_runtime.outage import Outage
from agentservice_runtime.redis_scripts import FAILURES, Scripts

CONNECTIONS: Final = 16
"""Where each step is traced, which the library's own client is. Elsewhere one does."""
ANSWER_SECONDS: Final = 2.0
"""For a step as a whole, connecting included."""
PAUSE_SECONDS: Final = 5.0
"""So long a Redis that failed is not asked again: a hanging one delays few requests, not each."""
LEASE_SECONDS: Final = 15.0
"""A leader that dies holds its followers up for so long."""
_PURGES_LIVE_SECONDS: Final = 86_400
"""Beyond the longest life of an answer that was kept since."""


class Word(StrEnum):
    """What `Store.ask` answers."""

    FOUND = "FOUND"
    LEAD = "LEAD"
    """Who asks makes the answer, and holds the lease."""
    WAIT = "WAIT"
    """Another process makes it."""
    ALONE = "ALONE"
    """Equal runs were not worth waiting for a moment ago."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The answer of `Store.ask`."""

    word: Word
    purges: Purges
    """As they were then."""
    id: str = ""
    of: str = ""
    """The purges' version when the run of the answer that was found began."""
    body: bytes = b""


class _Step(StrEnum):
    ASK = "ask"
    RENEW = "renew"
    KEEP = "keep"
    LEAVE = "leave"
    PURGE = "purge"


class Store:
    """The answers of one service in a Redis that it may share with others. It belongs to one loop."""

    def __init__(
        self,
        url: Callable[[], str | None],
        *,
        owner: str,
        ttl_seconds: int,
        answer_seconds: float = ANSWER_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        is_traced: bool = False,
    ) -> None:
        """``owner`` tells this service from all others; ``url`` is asked again when Redis cannot be used."""
        self.lease_seconds = lease_seconds
        self._scripts = Scripts(
            url,
            package="agentservice_runtime.cache",
            names=tuple(_Step),
            answer_seconds=answer_seconds,
            connections=CONNECTIONS if is_traced else None,
        )
        # the braces put all keys of a service into one slot of a Redis Cluster
        self._prefix = f"agentservice:cache:{{{owner}}}"
        self._lives_ms = 1000 * (_PURGES_LIVE_SECONDS + ttl_seconds)
        self._closed_until = 0.0
        self._outage = Outage(
            "cache", away="the cache's Redis cannot be used: runs do without it", back="the cache's Redis answers again"
        )
        self._purges = Purges()

    async def ask(self, key: str, *, token: str, too_old: str) -> Asked:
        """Ask for the answer of ``key``. ``too_old`` is the id of one that was found and does not count.

        Raises Unavailable.
        """
        known, lease = self._purges, round(1000 * self.lease_seconds)
        words = (token, lease, too_old, known.version, self._lives_ms)
        word, version, told, *rest = await self._run(_Step.ASK, key, *words)
        if told:
            pairs = {name.decode(): value.decode() for name, value in zip(told[::2], told[1::2], strict=True)}
            numbers = {name: int(value) for name, value in pairs.items() if name not in ("epoch", "seq")}
            known = self._purges = Purges(version=version.decode(), numbers=numbers)
        found = {"id": rest[0].decode(), "of": rest[1].decode(), "body": rest[2]} if rest else {}
        return Asked(word=Word(word.decode()), purges=known, **found)

    async def renew(self, key: str, *, token: str) -> None:
        """Prolong the lease. Raises Unavailable."""
        await self._run(_Step.RENEW, key, token, round(1000 * self.lease_seconds))

    async def keep(self, key: str, *, token: str, of: str, body: bytes, seconds: float) -> None:
        """Keep an answer for ``seconds`` and end the lease. Raises Unavailable."""
        await self._run(_Step.KEEP, key, token, of, body, max(1, round(1000 * seconds)), self._lives_ms)

    async def leave(self, key: str, *, token: str, alone_seconds: float) -> None:
        """End the lease without an answer; for ``alone_seconds`` nobody waits for another. Raises Unavailable."""
        await self._run(_Step.LEAVE, key, token, round(1000 * alone_seconds))

    async def purge(self, field: str, *, token: str) -> None:
        """Purge by a field of `purges`. Raises Unavailable, and then it may have been done or not."""
        self._closed_until = 0.0  # a person asks, and waits
        await self._run(_Step.PURGE, "", token, field, KEPT, self._lives_ms)

    async def close(self) -> None:
        """Close all connections. Never raises."""
        await self._scripts.close()

    async def _run(self, step: _Step, key: str, *words: str | int | bytes) -> list[Any]:
        if time.monotonic() < self._closed_until:
            raise Unavailable
        keys = [f"{self._prefix}:answer:{key}", f"{self._prefix}:flight:{key}", f"{self._prefix}:purges"]
        try:
            answer = await self._scripts.run(step, keys, words)
        except FAILURES as error:
            self._closed_until = time.monotonic() + PAUSE_SECONDS
            self._outage.tell(error)
            raise Unavailable from None
        self._outage.tell(None)
        return answer
