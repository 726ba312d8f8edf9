"""An API server that has one AgentLedger, in memory: what it takes and refuses, how it is watched, and how it fails.

The real one is asked in `tests/apiserver`. Here each interleaving, each lost answer and each late event is the test's own
choice. `refusal` says in Python what `agentservice_api.budget.ledger_rules` says in CEL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from agentservice_api.budget import UNLIMITED, ZERO, Amount, LedgerSpec, LedgerStatus, WindowState
from agentservice_api.budget.ledger import MAX_HOLDERS, MAX_WINDOWS, instant
from agentservice_runtime.ledger.api_server import (
    Conflict,
    Gone,
    Identity,
    LedgerEvent,
    Rejected,
    StoredLedger,
    Unreachable,
)
from agentservice_runtime.ledger.server_clock import ServerClock

BEGIN = datetime(2026, 3, 2, 10, tzinfo=UTC).timestamp()
WAY = 0.004
"""Seconds that a request or an answer is on its way."""


class ApiServer:
    """Time is the loop's, and ``skew`` seconds more."""

    def __init__(self, spec: LedgerSpec) -> None:
        self.spec = spec
        self.status = LedgerStatus(seeded=True)
        self.version = 1
        self.skew = 0.0
        self.is_down = False
        self.watchers: list[Client] = []
        self.ignores_versions = False

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return BEGIN + asyncio.get_running_loop().time() + self.skew

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def stored(self) -> StoredLedger:
        identity = Identity(uid="u", resource_version=str(self.version))
        return StoredLedger(metadata=identity, spec=self.spec, status=self.status)

    def write(self, members: Mapping[str, Any], *, version: str) -> StoredLedger:
        """Replace these members of the status. Raises Conflict and Rejected."""
        if version != str(self.version) and not self.ignores_versions:
            raise Conflict("somebody was faster")
        plain = {**self.status.model_dump(mode="json", by_alias=True), **members}
        status = LedgerStatus.model_validate(plain)
        why = refusal(self.spec, self.status, status)
        if why:
            raise Rejected(why)
        if status != self.status:
            self.status = status
            self._tell()
        return self.stored()

    def change(self, spec: LedgerSpec) -> None:
        """Put other terms in force."""
        if spec != self.spec:
            self.spec = spec
            self._tell()

    def fail(self) -> None:
        """Answer nobody from now on."""
        self.is_down = True
        for watcher in self.watchers:
            watcher.hear(Unreachable("the connection is lost"))

    def _tell(self) -> None:
        self.version += 1
        for watcher in self.watchers:
            watcher.hear(LedgerEvent(ledger=self.stored(), deleted=False))


class Client:
    """What a process has of it: as `agentservice_runtime.ledger.api_server.LedgerClient`."""

    def __init__(self, server: ApiServer, clock: ServerClock) -> None:
        self._server = server
        self._clock = clock
        self._events: asyncio.Queue[LedgerEvent | Exception] = asyncio.Queue()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.loses_answers = 0
        """So many writes are carried out whose answers never come."""
        self.heard = -float("inf")
        """The server's time when the loop's was 0, by the latest answer: no sane clock of this process lags behind it."""

    @property
    def is_late(self) -> bool:
        """Whether what happens is told, but has not arrived."""
        return not self._flowing.is_set()

    def hear(self, told: LedgerEvent | Exception) -> None:
        self._events.put_nowait(told)

    def delay(self) -> None:
        """Let what the watch tells arrive later."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let it arrive now."""
        self._flowing.set()

    async def get(self) -> StoredLedger:
        await self._reach()
        stored = self._server.stored()
        return await self._answered(stored)

    async def patch_status(self, status: Mapping[str, Any], *, resource_version: str) -> StoredLedger:
        await self._reach()
        try:
            stored = self._server.write(status, version=resource_version)
        except (Conflict, Rejected) as error:
            return await self._answered(error)
        if self.loses_answers:
            self.loses_answers -= 1
            await asyncio.sleep(WAY)
            raise Unreachable("no answer")
        return await self._answered(stored)

    @asynccontextmanager
    async def watch(self) -> AsyncGenerator[AsyncIterator[LedgerEvent]]:
        await self._reach()
        self._note_date()
        self._events = asyncio.Queue()
        self.hear(LedgerEvent(ledger=self._server.stored(), deleted=False))
        self._server.watchers.append(self)
        try:
            yield self._told()
        finally:
            self._server.watchers.remove(self)

    async def aclose(self) -> None:
        pass

    def end_watch(self) -> None:
        """Have the state to go on from forgotten (410)."""
        self.hear(Gone("too old"))

    async def _told(self) -> AsyncIterator[LedgerEvent]:
        while True:
            told = await self._events.get()
            await self._flowing.wait()
            if isinstance(told, Exception):
                raise told
            yield told

    async def _reach(self) -> None:
        await asyncio.sleep(WAY)
        if self._server.is_down:
            raise Unreachable("nobody answers")

    async def _answered(self, answer: StoredLedger | Exception) -> StoredLedger:
        await asyncio.sleep(WAY)
        if self._server.is_down:
            raise Unreachable("no answer")
        self._note_date()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _note_date(self) -> None:
        now = self._server.now
        self._clock.saw(format_datetime(datetime.fromtimestamp(int(now), UTC), usegmt=True))
        self.heard = max(self.heard, now - asyncio.get_running_loop().time())


def refusal(spec: LedgerSpec, old: LedgerStatus, new: LedgerStatus) -> str:
    """Return why the API server refuses that ``new`` takes the place of ``old``; empty when it does not."""
    if len(new.windows) > MAX_WINDOWS or len(new.holders) > MAX_HOLDERS:
        return "too many"
    if len({window.key for window in new.windows}) < len(new.windows):
        return "a window is listed twice"
    if len({(hand.holder, hand.key) for hand in new.holders}) < len(new.holders):
        return "a holder is listed twice"
    if old.seeded and not new.seeded:
        return "unseeded"
    for window in new.windows:
        before = old.window(window.key)
        why = _window(window, before)
        held = sum((hand.held for hand in new.holders if hand.key == window.key), ZERO)
        if held != window.authorized - window.settled - window.presumed:
            why = "authorized is not settled + presumed + held"
        if old.seeded and spec.is_hard and _passes(window.authorized, spec.limit(window.name), before):
            why = "authorized grows beyond the limit"
        if old.seeded and before is None and not _moves_on(window, old):
            why = "a window begins before the last one has ended"
        if why:
            return f"{why}: {window}"
    if old.seeded and _gives_back_of_the_gone(old, new):
        return "authorized falls while a holder leaves"
    for hand in new.holders:
        earlier = old.holder(hand.holder, hand.key)
        if earlier is None or (hand.seq > earlier.seq and earlier.granted.fits(hand.granted)):
            continue
        if (hand.seq, hand.held, hand.granted) != (earlier.seq, earlier.held, earlier.granted):
            return f"somebody else changed what {hand.holder} holds"
    if old.seeded:
        for window in old.windows:
            if new.window(window.key) is None and not _is_closed(window, new):
                return f"a window vanished: {window}"
    known = {(book.name, book.start): book for book in old.closed}
    if any(known.get((book.name, book.start), book) != book for book in new.closed):
        return "closed books changed"
    return ""


def _window(new: WindowState, old: WindowState | None) -> str:
    if sum((model.amount for model in new.models), ZERO) != new.settled + new.overrun:
        return "models do not add up"
    if old is None:
        return ""
    if new.end != old.end:
        return "the end moved"
    if not (old.settled.fits(new.settled) and old.overrun.fits(new.overrun)):
        return "what is settled fell"
    return ""


def _passes(authorized: Amount, limit: Amount, before: WindowState | None) -> bool:
    known = before.authorized if before is not None else ZERO
    return any(
        bound != unlimited and now > bound and now > was
        for now, bound, was, unlimited in (
            (authorized.tokens, limit.tokens, known.tokens, UNLIMITED.tokens),
            (authorized.nano_usd, limit.nano_usd, known.nano_usd, UNLIMITED.nano_usd),
        )
    )


def _gives_back_of_the_gone(old: LedgerStatus, new: LedgerStatus) -> bool:
    pairs = [(was, window) for was in old.windows if (window := new.window(was.key)) is not None]
    falls = any(not was.authorized.fits(window.authorized) for was, window in pairs)
    return falls and len(new.holders) < len(old.holders) and len(pairs) == len(old.windows)


def _moves_on(window: WindowState, old: LedgerStatus) -> bool:
    return all(instant(other.end) <= instant(window.start) for other in old.windows if other.name == window.name)


def _is_closed(window: WindowState, new: LedgerStatus) -> bool:
    later = any(w.name == window.name and instant(w.start) >= instant(window.end) for w in new.windows)
    return later and any(
        (book.name, book.start) == window.key
        and (window.settled + window.overrun).fits(Amount(book.tokens, book.nano_usd))
        for book in new.closed
    )
