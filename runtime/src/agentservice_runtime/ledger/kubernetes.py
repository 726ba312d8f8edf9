"""Decides a budget's reservations in a cluster without Redis: from slices of an AgentLedger that this process has taken.

A slice is this process's alone, so what fits it is granted by itself; only taking, returning and reporting are writes. What
is in hand is never more than the ledger lists: a slice ends with its window, or when the ledger lists it no more.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from agentservice_api.budget import ZERO, Amount, LedgerSpec, ModelSpend, Verdict
from agentservice_api.budget.books import presume_gone
from agentservice_api.budget.ledger import instant
from agentservice_runtime.ledger.authority import Authority, authority_of
from agentservice_runtime.ledger.interface import (
    Answer,
    Busy,
    Exhausted,
    Granted,
    LedgerUnavailable,
    Spend,
    WindowView,
)
from agentservice_runtime.ledger.slice_keeper import SliceKeeper
from agentservice_runtime.ledger.slices import Ask, Slice, judge
from agentservice_runtime.ledger.waiting import Waiter, WaitingRoom

LOGGER: Final = logging.getLogger("agentservice.ledger")
RETRY_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0
REMEMBERED: Final = 10_000
"""Requests that are settled, so that a repeated call changes nothing."""


class _Reservation(NamedTuple):
    amount: Amount
    slices: tuple[Slice, ...]


class KubernetesLedger:
    """A Ledger (see `interface`) over an `Authority`, which it opens and closes."""

    def __init__(
        self,
        *,
        authority: Authority,
        pod: str,
        word: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``pod`` is the pod's UID: it has one such process at a time. ``word`` tells the processes of a pod apart."""
        self._pod = pod
        self._holder = f"{pod}/{word or secrets.token_hex(4)}"
        self._authority = authority
        self._monotonic = monotonic
        self._open: dict[str, _Reservation] = {}
        self._settled = OrderedDict[str, Amount]()
        self._room = WaitingRoom()
        self._keeper = SliceKeeper(authority=authority, holder=self._holder, room=self._room, monotonic=monotonic)
        authority.listen(self._keeper.look)
        authority.take_turns_as(self._holder)

    @property
    def spec(self) -> LedgerSpec:
        """Limits, enforcement and prices as last seen. Raises LedgerUnavailable before the first look."""
        if self._keeper.spec is None:
            raise LedgerUnavailable("the budget's AgentLedger has not been seen yet")
        return self._keeper.spec

    async def open(self) -> None:
        """Begin, and count as spent what earlier processes of this pod held. Raises LedgerUnavailable."""
        await self._authority.open()
        if any(self._is_earlier(hand.holder) for hand in self._authority.seen().status.holders):
            await self._authority.transact(lambda status, spec, now: presume_gone(status, self._is_earlier))
        self._keeper.start()

    async def close(self) -> None:
        """Report everything and return what is idle, within CLOSE_SECONDS. Never raises."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._keeper.stop()
        except (TimeoutError, LedgerUnavailable) as error:
            LOGGER.error("agentledger: not everything is reported, so it counts as spent: %s", type(error).__name__)
        await self._authority.close()

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        """Reserve in both windows; see `interface.Ledger.reserve`. Raises LedgerUnavailable."""
        known = self._open.get(request_id)
        if known is not None:
            return Granted(amount=known.amount)
        if request_id in self._settled:
            return Granted(amount=self._settled[request_id])
        if self.reserve_now(request_id, bound):
            return Granted(amount=bound)
        return await self._wait(request_id, Ask(bound=bound, minimum=minimum), self._monotonic())

    def reserve_now(self, request_id: str, bound: Amount) -> bool:
        """Reserve what fits the slices in hand. False where it does not, and for a request that is known."""
        keeper = self._keeper
        ready, now = keeper.ready, self._monotonic()
        if not ready or now >= keeper.until or request_id in self._open or request_id in self._settled:
            return False
        tokens, nano = bound.tokens, bound.nano_usd
        for one in ready:
            if tokens > one.free_tokens or nano > one.free_nano:
                return False
        self._room.leave(request_id)
        self._hold(request_id, bound, ready, now)
        return True

    async def renew(self, request_id: str) -> None:
        """Nothing: what this process holds is its own until the operator sees its pod gone."""

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        """Replace the reservation by what was billed. Never waits."""
        self.settle_now(request_id, spend)

    def settle_now(self, request_id: str, spend: Spend) -> bool:
        """Replace the reservation by what was billed. Always done: what is posted later is kept until then."""
        if request_id in self._settled:
            return True
        found = self._open.pop(request_id, None)
        if found is None:
            self._keeper.spend(spend)
        else:
            for one in found.slices:
                one.settle(found.amount, spend)
        self._settled[request_id] = ZERO if found is None else found.amount
        if len(self._settled) > REMEMBERED:
            self._settled.popitem(last=False)
        self._keeper.stir()
        if self._room or self._keeper.is_asked:
            self._keeper.serve()
        return True

    async def changed(self, seconds: float) -> None:
        """Return when a reservation that was BUSY may fit now, after at most ``seconds``."""
        await self._room.changed(seconds)

    def view(self) -> tuple[WindowView, ...]:
        """Return the current windows as last seen, with what this process has not reported yet."""
        if self._monotonic() >= self._keeper.until:
            return ()
        return tuple(
            WindowView(
                name=one.window.name,
                start=instant(one.window.start),
                end=instant(one.window.end),
                limit=self.spec.limit(one.window.name),
                spent=one.window.spent + hand.unposted,
                reserved=hand.reserved,
            )
            for one, hand in self._keeper.accounts
        )

    def _is_earlier(self, holder: str) -> bool:
        return holder.startswith(f"{self._pod}/") and holder != self._holder

    def _grant(self, request_id: str, amount: Amount, slices: tuple[Slice, ...], now: float) -> Granted:
        self._hold(request_id, amount, slices, now)
        return Granted(amount=amount)

    def _hold(self, request_id: str, amount: Amount, slices: tuple[Slice, ...], now: float) -> None:
        for one in slices:
            one.reserve(amount)
        self._open[request_id] = _Reservation(amount, slices)
        self._keeper.used_at = now
        self._keeper.stir()

    async def _wait(self, request_id: str, ask: Ask, now: float) -> Answer:
        waiter = self._room.find(request_id) or Waiter(ask=ask, expires=0)
        waiter.expires = now + 2 * RETRY_SECONDS
        while True:
            answer = self._answer(request_id, ask)
            if answer is not None:
                self._room.leave(request_id)
                return answer
            if waiter.error is not None:
                raise waiter.error
            if waiter.considered and not self._keeper.is_writing:
                return Busy(retry_after=RETRY_SECONDS)
            self._room.enter(request_id, waiter)
            self._keeper.kick()
            waiter.expires = float("inf")
            waiter.told = asyncio.get_running_loop().create_future()
            try:
                await waiter.told
            except asyncio.CancelledError:
                self._room.leave(request_id)
                raise
            finally:
                waiter.told = None
                waiter.expires = self._monotonic() + 2 * RETRY_SECONDS

    def _answer(self, request_id: str, ask: Ask) -> Answer | None:
        """Return the answer if it can be given now. Raises LedgerUnavailable."""
        self._authority.seen()
        now = self._monotonic()
        if not self._keeper.accounts or now >= self._keeper.until:
            return None
        slices = tuple(one for _, one in self._keeper.accounts)
        if not self.spec.is_hard:
            return self._grant(request_id, ask.bound, slices, now)
        verdict, amount, window = judge(self._keeper.accounts, ask)
        if verdict is Verdict.EXHAUSTED:
            return Exhausted(window=window, resets_in=self._ends_in(window))
        if verdict is not Verdict.GRANT or not self._keeper.ready:
            return None
        if self._keeper.is_writing and amount != ask.bound:
            return None  # less than was asked for only when it is known how much is left
        if all(amount.fits(one.free) for one in slices):
            return self._grant(request_id, amount, slices, now)
        return None

    def _ends_in(self, name: str) -> float:
        now = self._authority.now()
        ends = (instant(one.window.end) for one, _ in self._keeper.accounts if one.window.name == name)
        return max(0.0, (max(ends) - now).total_seconds())


def in_pod(*, name: str, environment: Mapping[str, str]) -> KubernetesLedger:
    """Return the ledger of the AgentService ``name`` whose pod this is. Raises LedgerUnavailable outside of a pod."""
    pod = environment.get("POD_UID")
    if not pod:
        raise LedgerUnavailable("the environment has no POD_UID: the operator sets it in a pod")
    return KubernetesLedger(authority=authority_of(name, environment=environment), pod=pod)
