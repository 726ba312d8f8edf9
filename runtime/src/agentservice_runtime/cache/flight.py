"""Decides which of many equal runs asks the model: one, over all processes, and the others wait for its answer.

Who leads holds a lease in Redis and renews it. When the lease is given back without an answer or ends, because its
process has died or hangs, another run takes over. A follower waits only so long, and a leader whose answer cannot be
kept sends all on their way at once, so waiting never costs more than it can save.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from agentservice_runtime.cache.outcome import Unavailable
from agentservice_runtime.cache.purges import Purges
from agentservice_runtime.cache.replay import Kept
from agentservice_runtime.cache.store import Store, Word

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.25
"""Between two looks of a follower."""
AFTER_FAILURE_SECONDS: Final = 2.0
"""So long nobody waits for another after the leader's run has failed."""
AFTER_UNKEPT_SECONDS: Final = 60.0
"""Likewise after an answer that may not be kept."""

Judge = Callable[[Purges, str], bool]
"""Whether an answer whose run began at this version counts among these purges."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """An answer."""

    kept: Kept
    waited: bool


@dataclass(frozen=True)
class Alone:
    """This run asks the model, and its answer is not kept."""


class Lease:
    """This run asks the model for all. `keep` or `leave` ends it, and must be called whatever happens."""

    def __init__(
        self, store: Store, *, key: str, token: str, of: str, seconds: float, leave: Callable[[str, str, float], None]
    ) -> None:
        """``seconds`` is the longest that the run may take: beyond, the lease is not renewed."""
        self.key = key
        self._store = store
        self._token = token
        self._of = of
        self._leave = leave
        self._until = time.monotonic() + seconds
        self._loop = asyncio.get_running_loop()
        self._renewing: asyncio.Task[None] | None = None
        # most runs have ended by then: a task for each would cost them more than the timer
        self._due = self._loop.call_later(store.lease_seconds / 3, self._begin_to_renew)

    async def keep(self, kept: bytes, *, seconds: float) -> None:
        """Keep the answer for ``seconds``. Never raises."""
        self._end()
        with contextlib.suppress(Unavailable):
            await self._store.keep(self.key, token=self._token, of=self._of, body=kept, seconds=seconds)

    def leave(self, *, alone_seconds: float) -> None:
        """Give the lease back; for ``alone_seconds`` nobody waits for another."""
        self._end()
        self._leave(self.key, self._token, alone_seconds)

    def _end(self) -> None:
        self._due.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    def _begin_to_renew(self) -> None:
        self._renewing = self._loop.create_task(self._renew())

    async def _renew(self) -> None:
        while time.monotonic() < self._until:
            with contextlib.suppress(Unavailable):  # it may answer again before the lease ends
                await self._store.renew(self.key, token=self._token)
            await asyncio.sleep(self._store.lease_seconds / 3)


class Flights:
    """The flights of one process."""

    def __init__(
        self,
        store: Store,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._sleep = sleep
        self._background: set[asyncio.Task[None]] = set()

    async def board(self, key: str, *, counts: Judge, run_seconds: float, wait_seconds: float) -> Found | Lease | Alone:
        """Return the answer, or who makes it. Raises Unavailable when Redis cannot be asked, at once or while waiting."""
        token = secrets.token_hex(12)
        try:
            return await self._board(
                key, token, counts=counts, run_seconds=run_seconds, deadline=self._monotonic() + wait_seconds
            )
        except asyncio.CancelledError:
            # Redis may have given the lease to this run before it heard of it
            self._leave(key, token, 0)
            raise

    async def _board(
        self, key: str, token: str, *, counts: Judge, run_seconds: float, deadline: float
    ) -> Found | Lease | Alone:
        pause, too_old, waited = FIRST_PAUSE_SECONDS, "", False
        while True:
            asked = await self._store.ask(key, token=token, too_old=too_old)
            match asked.word:
                case Word.FOUND:
                    kept = Kept.decode(asked.body, key=key) if counts(asked.purges, asked.of) else None
                    if kept is not None:
                        return Found(kept=kept, waited=waited)
                    too_old = asked.id
                case Word.LEAD:
                    of = asked.purges.version
                    return Lease(self._store, key=key, token=token, of=of, seconds=run_seconds, leave=self._leave)
                case Word.ALONE:
                    return Alone()
                case Word.WAIT:
                    if self._monotonic() >= deadline:
                        return Alone()
                    waited = True
                    await self._sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  so that they do not come in step
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _leave(self, key: str, token: str, alone_seconds: float) -> None:
        """Give a lease back in the background: whoever does so may be in the middle of being cancelled."""

        async def leave() -> None:
            with contextlib.suppress(Unavailable):
                await self._store.leave(key, token=token, alone_seconds=alone_seconds)

        task = asyncio.create_task(leave())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def settle(self) -> None:
        """Wait until all leases that were left are given back. Never raises."""
        await asyncio.gather(*self._background, return_exceptions=True)
