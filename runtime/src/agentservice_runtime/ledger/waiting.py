"""Decides who is told when a reservation may fit now: the first who waited, and as many as there is room for."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agentservice_runtime.ledger.interface import LedgerUnavailable
from agentservice_runtime.ledger.slices import Ask


@dataclass(slots=True, eq=False)
class Waiter:
    """A request without a reservation yet."""

    ask: Ask
    expires: float
    """When it is given up, unless it is asked for again; by the local monotonic clock."""
    considered: bool = False
    """Whether the ledger was asked since."""
    error: LedgerUnavailable | None = None
    """Why the ledger could not be asked."""
    told: asyncio.Future[None] | None = None
    """Done when there is something new to know; None while its caller is away."""

    def tell(self) -> bool:
        """Wake the caller. Return whether it was there and asleep."""
        if self.told is None or self.told.done():
            return False
        self.told.set_result(None)
        return True


class WaitingRoom:
    """The waiters of one process, in the order in which they came. Methods belong to one loop."""

    def __init__(self) -> None:
        self._waiters: dict[str, Waiter] = {}
        self._away: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def find(self, request_id: str) -> Waiter | None:
        """Return the waiter that has come before."""
        return self._waiters.get(request_id)

    def enter(self, request_id: str, waiter: Waiter) -> None:
        """Put it last."""
        self._waiters[request_id] = waiter

    def leave(self, request_id: str) -> None:
        """Take it out, answered or given up."""
        self._waiters.pop(request_id, None)

    def forget_expired(self, now: float) -> None:
        """Take out those whose callers have not come again."""
        for request_id in [key for key, waiter in self._waiters.items() if waiter.expires <= now]:
            del self._waiters[request_id]

    def fail(self, waiters: list[Waiter], error: LedgerUnavailable) -> None:
        """Answer these with ``error``; those who are away will ask anew."""
        gone = set(map(id, waiters))
        for waiter in waiters:
            waiter.error = error
            waiter.tell()
        self._waiters = {key: waiter for key, waiter in self._waiters.items() if id(waiter) not in gone}
        self.call_back(len(waiters))

    async def changed(self, seconds: float) -> None:
        """Return when `call_back` says so, after at most ``seconds``."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._away.append(future)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await future
        finally:
            with contextlib.suppress(ValueError):
                self._away.remove(future)

    def wake(self, waiters: Iterable[Waiter]) -> None:
        """Have these come and ask; in place of one that is away, the first of those."""
        self.call_back(sum(not waiter.tell() for waiter in waiters))

    def wake_all(self) -> None:
        """Have everybody come and ask."""
        self.wake(self)

    def call_back(self, count: int) -> None:
        """Have so many of those who are away come again, the first ones first."""
        while count > 0 and self._away:
            future = self._away.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1
