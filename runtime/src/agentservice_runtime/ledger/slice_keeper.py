"""Decides when slices are taken, returned and reported: one task per process makes all writes, one at a time.

Between writes it follows what the ledger lists: windows that begin and end, limits that move, others that wait, and its own
entry, which somebody else may have struck off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from agentservice_api.budget import WINDOWS, ZERO, LedgerSpec, Verdict, WindowKey
from agentservice_api.budget.ledger import instant
from agentservice_runtime.ledger.authority import Authority, Contended
from agentservice_runtime.ledger.interface import LedgerUnavailable, Spend
from agentservice_runtime.ledger.slices import (
    Account,
    Ask,
    Batch,
    Outdated,
    Slice,
    account,
    carry_out,
    is_worth_telling,
    judge,
    landed,
)
from agentservice_runtime.ledger.waiting import WaitingRoom

LOGGER: Final = logging.getLogger("agentservice.ledger")
IDLE_SECONDS: Final = 3.0
"""A slice that nobody has used for so long is returned."""
REPORT_SECONDS: Final = 10.0
"""What was billed is reported after so long at the latest."""
REPORT_PART: Final = 20
"""What was billed is reported soon when it is this part of a limit: 5 %."""
MOST_EAGER: Final = 16
"""Slices that are taken at once at most; never more than an even part of the pool."""
TICK_SECONDS: Final = 1.0
WRITE_SECONDS: Final = 3.0


class SliceKeeper:
    """The slices of one process. Those who reserve and settle count them up and down between two steps of its task."""

    def __init__(
        self,
        *,
        authority: Authority,
        holder: str,
        room: WaitingRoom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._holder = holder
        self._room = room
        self._monotonic = monotonic
        self._slices: dict[WindowKey, Slice] = {}
        self._batch: Batch | None = None
        """On its way, or sent without an answer."""
        self._homeless: list[Spend] = []
        """Billed while no window was known."""
        self._kicked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._quiet = True
        """Nothing is idle and nothing is to be reported, so nothing happens by itself."""
        self._unposted_since = 0.0
        self._took_at = 0.0
        self._eager = 1
        self.accounts: tuple[tuple[Account, Slice], ...] = ()
        """The current windows."""
        self.ready: tuple[Slice, ...] = ()
        """Their slices, if what fits them may be granted without a look at the accounts."""
        self.until = 0.0
        """When the first of the current windows ends, by the monotonic clock."""
        self.is_asked = False
        """Whether others wait for what is idle here, or for what was spent here to be known."""
        self.spec: LedgerSpec | None = None
        self.used_at = 0.0
        """When a slice was last used, by the monotonic clock."""

    @property
    def is_writing(self) -> bool:
        """Whether part of the slices is set aside for a write, so that what is free is not all there is."""
        return self._batch is not None

    def start(self) -> None:
        """Begin; may be called again. The authority must be open."""
        self.look()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep(), name="agentledger-slices")

    async def stop(self) -> None:
        """End the task, report everything and return what is idle. Raises LedgerUnavailable."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._batch is not None:
            await self._write(replace(self._batch, asks=(), due=True, in_doubt=True))
        parts = tuple(one.send(give=True) for one in self._slices.values())
        if any(part.spent or part.idle for part in parts):
            await self._write(Batch(parts=parts, due=True))

    def kick(self) -> None:
        """Have the task look what there is to do."""
        self._kicked.set()

    def stir(self) -> None:
        """Say that a slice was used."""
        if self._quiet:
            self._quiet = False
            self._unposted_since = self._monotonic()
            self._kicked.set()

    def spend(self, spend: Spend) -> None:
        """Count what was billed without a reservation."""
        for _, one in self.accounts:
            one.settle(ZERO, spend)
        if not self.accounts:
            self._homeless.append(spend)

    def look(self) -> None:
        """Take what the authority has seen."""
        try:
            stored = self._authority.seen()
            now, monotonic = self._authority.now(), self._monotonic()
        except LedgerUnavailable:
            self.ready = ()
            self._room.wake_all()
            return
        status, self.spec = stored.status, stored.spec
        current = [window for name in WINDOWS if (window := status.current(name)) is not None]
        for key, one in list(self._slices.items()):
            hand = status.holder(self._holder, key)
            if status.window(key) is None:
                del self._slices[key]  # closed: what was held of it counts as spent
            elif hand is None and one.seq:
                self._succeed(one)
            elif self._batch is None:
                one.agree(hand)
            elif hand is not None and hand.seq > one.seq:
                one.sent = ZERO  # the watch was faster than the answer: what was sent is in these accounts
        accounts = [(account(status, stored.spec, self._holder, window), self._slice(window.key)) for window in current]
        self.accounts = tuple(accounts)
        ends = [monotonic + (instant(one.window.end) - now).total_seconds() for one, _ in accounts]
        self.until = min(ends, default=0.0)
        may_grant = stored.spec.is_hard and not any(one.is_frozen or self._strays(one, hand) for one, hand in accounts)
        self.ready = tuple(hand for _, hand in accounts) if may_grant else ()
        self.is_asked = any(one.window.wanted or one.is_frozen for one, _ in accounts)
        while self._homeless and accounts:
            self.spend(self._homeless.pop())
        self.serve()

    def serve(self) -> None:
        """Wake those who can be answered now, and have the ledger asked where that may help."""
        if not self._room:
            if self._is_wanted():
                self._kicked.set()
            return
        free = [one.free for one in self.ready]
        found = 0
        for waiter in self._room:
            if free and all(waiter.ask.bound.fits(part) for part in free):
                free = [part - waiter.ask.bound for part in free]
                self._room.wake([waiter])
                found += 1
        if found or not self.accounts:
            return
        if self.spec is not None and not self.spec.is_hard:
            self._room.wake_all()
            return
        judged: set[Ask] = set()
        for waiter in self._room:
            if waiter.ask in judged:
                continue
            judged.add(waiter.ask)
            verdict, amount, _ = judge(self.accounts, waiter.ask)
            if verdict is Verdict.EXHAUSTED:
                self._room.wake([other for other in self._room if other.ask == waiter.ask])
                if self._is_wanted():
                    self._kicked.set()  # what was spent here is what others wait to know
            elif verdict is Verdict.GRANT and self.ready and all(amount.fits(one.free) for one in self.ready):
                self._room.wake([waiter])
                return
            elif verdict is Verdict.GRANT or is_worth_telling(self.accounts, waiter.ask):
                self._kicked.set()
                return

    def _slice(self, key: WindowKey) -> Slice:
        return self._slices.setdefault(key, Slice(key=key))

    def _succeed(self, old: Slice) -> None:
        """Begin anew: what was held counts as spent already, by somebody else's hand, what is reserved of it included."""
        heir = self._slices[old.key] = Slice(key=old.key, spent=old.spent, elder=old if old.is_awaited else None)
        old.heir = heir
        heir.agree(None)

    def _strays(self, one: Account, hand: Slice) -> bool:
        """Tell whether the ledger lists something else of this holder than it has made: nothing is granted from that."""
        listed = one.hand.seq if one.hand is not None else 0
        return listed != hand.seq and not (self._batch is not None and listed == hand.seq + 1)

    def _is_wanted(self) -> bool:
        """Tell whether there is something that others wait for."""
        return self.is_asked and any(
            (one.window.wanted or one.is_frozen) and (hand.spent or hand.free.non_negative())
            for one, hand in self.accounts
        )

    async def _keep(self) -> None:
        while True:
            at_rest = self._quiet and not self._room and self._batch is None
            with contextlib.suppress(TimeoutError):
                # not wait_for, which in 3.11 loses a cancellation that comes together with the event
                async with asyncio.timeout(None if at_rest else TICK_SECONDS):
                    await self._kicked.wait()
            self._kicked.clear()
            await asyncio.sleep(0)  # those who were told first take what there is
            try:
                if not await self._round():
                    # the same again would bring as little: others have to move first, or time to pass
                    await asyncio.sleep(TICK_SECONDS / 20)
            except LedgerUnavailable as error:
                LOGGER.warning("%s", error)
                await asyncio.sleep(TICK_SECONDS / 4)
            except Exception:
                # must go on: nothing else reports or takes
                LOGGER.exception("agentledger: a write could not be made")
                await asyncio.sleep(TICK_SECONDS)

    async def _round(self) -> bool:
        """Write what there is to write, and serve. Return False when nothing came of it."""
        now = self._monotonic()
        self._room.forget_expired(now)
        waiters = list(self._room)
        asks = tuple(waiter.ask for waiter in waiters)
        if asks and now - self._took_at > TICK_SECONDS:
            self._eager = 1
        if self._batch is not None:
            batch = replace(self._batch, asks=asks, due=True, in_doubt=True)
        else:
            batch = self._next(asks, now)
        brought = True
        try:
            if batch is not None:
                brought = await self._write(batch)
        except Contended:
            self._kicked.set()
        except LedgerUnavailable as error:
            self._room.fail(waiters, error)
            raise
        for waiter in waiters:
            waiter.considered = True
            waiter.tell()
        self.serve()
        self._quiet = not any(one.spent or one.free.non_negative() for one in self._slices.values())
        return brought

    async def _write(self, batch: Batch) -> bool:
        """Carry out ``batch``. Return False when the accounts are as they were, and nobody else's write was in the way."""
        self._batch = batch
        brought = True
        try:
            status = await self._authority.transact(
                lambda status, spec, now: carry_out(status, spec, self._holder, batch), seconds=WRITE_SECONDS
            )
        except Outdated:
            self._take_back(batch)
        else:
            if landed(status, self._holder, batch):
                self._unposted_since = self._monotonic()
                if batch.asks:
                    self._took_at, self._eager = self._unposted_since, min(2 * self._eager, MOST_EAGER)
            else:
                brought = False
                self._take_back(batch)
        self._batch = None
        self.look()
        self._drop_settled()
        return brought

    def _take_back(self, batch: Batch) -> None:
        for part in batch.parts:
            one = self._slices.get(part.key)
            if one is not None:
                one.take_back(part)

    def _drop_settled(self) -> None:
        """Forget windows that are over and of which nothing is left here."""
        current = {hand.key for _, hand in self.accounts}
        for key, one in list(self._slices.items()):
            if key not in current and not (one.is_awaited or one.spent or one.free.non_negative()):
                del self._slices[key]

    def _next(self, asks: tuple[Ask, ...], now: float) -> Batch | None:
        """Return what there is to write, set aside; None if nothing."""
        idle = now - self.used_at >= IDLE_SECONDS
        wanted = self._is_wanted()
        due = idle or (wanted and not asks) or now - self._unposted_since >= REPORT_SECONDS or self._is_much()
        if not asks and not due:
            return None
        give = bool(asks) or idle or wanted
        current = {hand.key for _, hand in self.accounts} if now < self.until else set[WindowKey]()
        parts = tuple(one.send(give=give or one.key not in current) for one in self._slices.values())
        if asks or any(part.spent or part.idle for part in parts):
            return Batch(parts=parts, asks=asks, eager=self._eager, due=due)
        return None

    def _is_much(self) -> bool:
        """Tell whether so much is not reported yet that a percentage would be wrong by it."""
        for one, hand in self.accounts:
            limit, spent = self.spec.limit(one.window.name) if self.spec is not None else one.limit, hand.unposted
            if spent.tokens * REPORT_PART > limit.tokens or spent.nano_usd * REPORT_PART > limit.nano_usd:
                return True
        return False
