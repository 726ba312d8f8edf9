"""Decides what this process knows of its AgentLedger, and how its accounts are changed: compare, swap, or look again.

A watch keeps it fresh. A change is a pure function (of `agentservice_api.budget.books`); it is carried out on the state
last seen and written with that state's resourceVersion, so it lands on exactly that state or not at all. A write whose
answer is lost may have landed, so a change has to see by the accounts, by its holder's seq, whether it was carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from agentservice_api.budget import LedgerSpec, LedgerStatus
from agentservice_api.budget.books import BooksFull, Calendar, calendar, close, roll
from agentservice_api.budget.windows import UnknownTimeZone
from agentservice_runtime.ledger.api_server import (
    ApiError,
    Conflict,
    Gone,
    LedgerClient,
    NotFound,
    StoredLedger,
    Unreachable,
    in_cluster,
)
from agentservice_runtime.ledger.interface import LedgerUnavailable
from agentservice_runtime.ledger.server_clock import ServerClock
from agentservice_runtime.ledger.write_turns import Turns

LOGGER: Final = logging.getLogger("agentservice.ledger")
TRANSACT_SECONDS: Final = 5.0
"""So long a change is tried by default."""
MIN_PAUSE: Final = 0.01
MAX_PAUSE: Final = 0.25
"""Seconds, while there is no answer: between tries, each a random part of a pause that doubles."""
MAX_RECONNECT: Final = 1.0
"""Seconds between two tries to watch: limits are to be in force soon after an API server is back."""

Change = Callable[[LedgerStatus, LedgerSpec, datetime], LedgerStatus]
"""The accounts (windows opened and closed as of the moment given), the terms and the moment; returns the new accounts.

May be called several times, for each state that others have made meanwhile, and again after a write whose answer was
lost. Returns the accounts as they are when there is nothing (more) to do, and raises BooksFull where there is no room.
"""


class Contended(LedgerUnavailable):
    """Others were always faster, so the ledger is there and this process's turn has not come yet."""


class Authority:
    """The AgentLedger of one AgentService, shared by whoever in this process needs it. Methods belong to one loop."""

    def __init__(
        self,
        *,
        client: LedgerClient,
        clock: ServerClock,
        calendar: Calendar = calendar,
        random: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``client`` is closed with this; ``clock`` must be the one that it sets."""
        self._client = client
        self._clock = clock
        self._calendar = calendar
        self._random = random
        self._monotonic = monotonic
        self._seen: StoredLedger | None = None
        self._absent = "the API server has not answered yet"
        """Why nothing is seen."""
        self._doubtful = False
        """Whether a write may have landed of which no answer came."""
        self._turns = Turns(random=random, monotonic=monotonic)
        self._writing = asyncio.Lock()
        self._conflicts = False
        """Whether the last answer to a write was that somebody else had written."""
        self._listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        clock.moved = self._call

    async def open(self, *, seconds: float = TRANSACT_SECONDS) -> None:
        """Watch from now on, and return when the accounts are usable. Raises LedgerUnavailable after ``seconds``.

        The watch goes on then; may be called again.
        """
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._follow(), name="agentledger-watch")
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                self.seen()
                return
            except LedgerUnavailable:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise
            await self._news(left)

    async def close(self) -> None:
        """Stop watching and close the connections."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        await self._client.aclose()

    def seen(self) -> StoredLedger:
        """Return the ledger as last seen, in this process's own writes too. Raises LedgerUnavailable."""
        if self._seen is None:
            raise LedgerUnavailable(f"the budget's AgentLedger cannot be used: {self._absent}")
        if not self._seen.status.seeded:
            raise LedgerUnavailable("the budget's AgentLedger is not seeded yet: the operator does that")
        return self._seen

    def rolled(self, stored: StoredLedger) -> LedgerStatus:
        """Return the accounts of ``stored`` with the windows open that hold now. Raises LedgerUnavailable."""
        try:
            return roll(stored.status, stored.spec, now=self.now(), calendar=self._calendar)
        except UnknownTimeZone as error:
            raise LedgerUnavailable(f"the budget's time zone cannot be used: {error}") from None

    async def look(self, *, seconds: float = TRANSACT_SECONDS) -> StoredLedger:
        """Read the ledger anew and return it: the watch may lag. Raises LedgerUnavailable."""
        try:
            async with asyncio.timeout(seconds), self._writing:
                if not await self._look():
                    raise LedgerUnavailable("the API server does not answer")
        except TimeoutError:
            raise LedgerUnavailable("the API server does not answer in time") from None
        return self.seen()

    def now(self) -> datetime:
        """Return the API server's time. Raises LedgerUnavailable before its first answer."""
        if not self._clock.is_set:
            raise LedgerUnavailable("the API server has not answered yet, so nobody knows which window it is")
        return self._clock.now()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after each change of what is seen, the object's end and the time included. It must not raise."""
        self._listeners.append(listener)

    def take_turns_as(self, holder: str) -> None:
        """Stand in line with the other holders. For who is the only one to write as ``holder``."""
        self._turns.me = holder

    async def transact(self, change: Change, *, seconds: float = TRANSACT_SECONDS) -> LedgerStatus:
        """Carry out ``change`` and return the accounts that it has landed in. One at a time in this process.

        Raises LedgerUnavailable when that is not so after ``seconds``, or cannot be: the object is absent, not seeded, or
        this pod may not write it. Whether the change lands all the same is unknown then; repeat it. Contended is one of
        these, where only others' writes were in the way.
        """
        try:
            async with asyncio.timeout(seconds), self._writing:
                return await self._transact(change)
        except TimeoutError:
            if self._conflicts:
                raise Contended("the budget's AgentLedger is written by many, and its turn has not come") from None
            raise LedgerUnavailable("the budget's AgentLedger could not be written in time") from None
        except BooksFull as error:
            raise LedgerUnavailable(f"the budget's AgentLedger is full: {error}") from None
        except UnknownTimeZone as error:
            raise LedgerUnavailable(f"the budget's time zone cannot be used: {error}") from None

    async def _transact(self, change: Change) -> LedgerStatus:
        pause = MIN_PAUSE
        self._conflicts = False
        while True:
            if self._doubtful and not await self._look():
                self._conflicts = False
                pause = await self._pause(pause)
                continue
            stored = self.seen()
            now = self.now()
            base = roll(stored.status, stored.spec, now=now, calendar=self._calendar)
            base = close(base, now=now, hard=stored.spec.is_hard)
            changed = change(base, stored.spec, now)
            if changed is base or changed == base:
                return stored.status
            if (wait := self._turns.wait()) > 0:
                await self._news(wait)
                continue
            try:
                return await self._write(stored, changed)
            except Conflict:
                self._conflicts = True
                if self._seen is stored:
                    await self._news(MAX_PAUSE)  # the watch usually tells what is new
                self._doubtful = self._seen is stored
            except Unreachable as error:
                LOGGER.debug("agentledger write: %s", error)
                self._conflicts = False
                pause = await self._pause(pause)
            except ApiError as error:
                self._refused(error)
                raise LedgerUnavailable(f"the budget's AgentLedger cannot be written: {error}") from None

    async def _write(self, stored: StoredLedger, changed: LedgerStatus) -> LedgerStatus:
        began = self._monotonic()
        self._doubtful = True  # until an answer says otherwise; a cancelled write has none
        try:
            written = await self._client.patch_status(
                _delta(stored.status, changed), resource_version=stored.metadata.resource_version
            )
        except Unreachable:
            raise
        except ApiError:
            self._doubtful = False
            raise
        self._doubtful = False
        self._turns.took(self._monotonic() - began)
        self._tell(written)
        return written.status

    async def _news(self, seconds: float) -> None:
        """Return when another state is seen, after at most ``seconds``."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _pause(self, pause: float) -> float:
        await asyncio.sleep(self._random() * pause)
        return min(2 * pause, MAX_PAUSE)

    async def _look(self) -> bool:
        """Read the object anew: what was in doubt is decided by what is there. Return whether there was an answer."""
        before = self._seen
        try:
            stored = await self._client.get()
        except Unreachable:
            return False
        except ApiError as error:
            self._refused(error)
            raise LedgerUnavailable(f"the budget's AgentLedger cannot be read: {error}") from None
        self._doubtful = False
        self._tell(stored, instead_of=before)
        return True

    def _refused(self, error: ApiError) -> None:
        LOGGER.warning("agentledger: %s", error)
        if isinstance(error, NotFound):
            self._tell(None, why=str(error))

    async def _follow(self) -> None:
        pause = MIN_PAUSE
        while True:
            try:
                async with self._client.watch() as events:
                    # the watch tells what is there, but nothing of what is not
                    await self._look_for_it()
                    pause = MIN_PAUSE
                    async for event in events:
                        if not event.deleted:
                            self._tell(event.ledger)
                        elif self._seen is not None and self._seen.metadata.uid == event.ledger.metadata.uid:
                            self._tell(None, why="it was deleted")
                continue  # ended by the API server, in order
            except Gone:
                pass
            except ApiError as error:
                if self._seen is None and self._absent != str(error):
                    self._tell(None, why=str(error))
            await asyncio.sleep(pause * (0.5 + self._random() / 2))
            pause = min(2 * pause, MAX_RECONNECT)

    async def _look_for_it(self) -> None:
        before = self._seen
        try:
            stored = await self._client.get()
        except NotFound as error:
            self._tell(None, why=str(error))
        else:
            self._tell(stored, instead_of=before)

    def _tell(self, stored: StoredLedger | None, *, instead_of: StoredLedger | None = None, why: str = "") -> None:
        """Take what was told for what is, unless something newer is known.

        A watch tells our own writes after their answers have. What was read while nothing else was told, ``instead_of``
        what was seen before, is true in any case: an etcd that is restored from a backup goes back.
        """
        seen = self._seen
        if stored is None:
            self._seen, self._absent = None, why
        elif seen is None or (stored.metadata != seen.metadata if instead_of is seen else _is_newer(stored, than=seen)):
            self._turns.saw(seen.status if seen is not None else None, stored.status)
            self._seen = stored
        else:
            return
        self._changed.set()
        self._call()

    def _call(self) -> None:
        for listener in self._listeners:
            listener()


def authority_of(name: str, *, environment: Mapping[str, str]) -> Authority:
    """Return that of the AgentService ``name`` whose pod this is. Raises LedgerUnavailable outside of a pod."""
    try:
        access = in_cluster(environment)
        namespace = environment["POD_NAMESPACE"]
    except ApiError as error:
        raise LedgerUnavailable(str(error)) from None
    except KeyError as error:
        raise LedgerUnavailable(f"the environment has no {error.args[0]}: the operator sets it in a pod") from None
    clock = ServerClock()
    return Authority(client=LedgerClient(access=access, namespace=namespace, name=name, clock=clock), clock=clock)


def _is_newer(stored: StoredLedger, *, than: StoredLedger) -> bool:
    # versions of one resource are compared as numbers, which the API promises from 1.35 on and etcd has always given
    return int(stored.metadata.resource_version) > int(than.metadata.resource_version)


def _delta(old: LedgerStatus, new: LedgerStatus) -> dict[str, Any]:
    """Return the members of the status that differ, as a merge patch has them: lists as a whole."""
    names = {name for name in LedgerStatus.model_fields if getattr(old, name) != getattr(new, name)}
    return new.model_dump(mode="json", by_alias=True, include=names)
