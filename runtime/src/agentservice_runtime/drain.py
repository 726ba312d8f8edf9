"""Decides what stopping means: not ready at once, serve on while endpoints still point here, finish, then close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

_ENDPOINTS_LAG_SECONDS: Final = 5.0
"""How long proxies may still send new requests after the pod is marked as terminating."""
_CLOSING_SECONDS: Final = 2.0
_SHARE: Final = 0.2
"""Of a short timeout no part takes more than this share before the runs' own."""


@dataclass(frozen=True, kw_only=True)
class DrainPlan:
    """How the seconds between the signal and the exit are spent; together they are less than `drainTimeoutSeconds`.

    With the default timeout, that of a run + 10 s, a run that begins in the last moment may still take its full time.
    """

    accept_seconds: float
    """New requests are still served."""
    finish_seconds: float
    """Runs that have begun may end; then they are cancelled."""
    close_seconds: float
    """What was cancelled may tell its client, and then `ctx.deps` may be closed: each may take as long."""
    total_seconds: float
    """Then the process ends, whatever still holds it."""

    @classmethod
    def of(cls, drain_timeout_seconds: float, *, is_called: bool = True) -> DrainPlan:
        """Return the plan for a timeout; ``is_called`` says whether endpoints may point here."""
        accept = min(_ENDPOINTS_LAG_SECONDS, drain_timeout_seconds * _SHARE) if is_called else 0.0
        close = min(_CLOSING_SECONDS, drain_timeout_seconds * _SHARE / 2)
        total = drain_timeout_seconds - close / 4
        return cls(
            accept_seconds=accept,
            finish_seconds=total - accept - 2 * close,
            close_seconds=close,
            total_seconds=total,
        )


class Drain:
    """Whether this process is stopping."""

    def __init__(self) -> None:
        self.is_draining = False
        self._began = 0.0
        self._others: list[Callable[[float], Awaitable[None]]] = []

    def begin(self) -> None:
        """From now on `/ready` says no, and answers ask clients to open their next connection elsewhere."""
        if not self.is_draining:
            self._began = time.monotonic()
        self.is_draining = True

    def also(self, finish: Callable[[float], Awaitable[None]]) -> None:
        """Have ``finish`` awaited, with the seconds it may take, beside the requests."""
        self._others.append(finish)

    async def finish_others(self, *, seconds: float) -> None:
        """Finish what is no request, until so many seconds after `begin`."""
        left = max(0.0, seconds - (time.monotonic() - self._began)) if self.is_draining else 0.0
        await asyncio.gather(*(finish(left) for finish in self._others))
