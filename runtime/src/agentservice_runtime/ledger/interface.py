"""Decides what a ledger is to the meter: reserve before, settle after, and nothing else matters how it is kept.

Three keep it: Kubernetes (slices of an AgentLedger), Redis (one script per step, chunks of an AgentLedger), SQLite (one
machine). One conformance suite holds for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend


class LedgerUnavailable(Exception):  # noqa: N818
    """The ledger cannot be asked now, or its accounts are not to be trusted. The message has no address and no key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Granted:
    """The request may be sent, and may cost ``amount``: the bound that was asked for, or less near a limit."""

    amount: Amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """Only reservations in flight stand in the way."""

    retry_after: float
    """Seconds after which asking again may help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhausted:
    """The window called ``window`` has not enough left, and will not until it ends."""

    window: str
    resets_in: float
    """Seconds until its end, by the ledger's clock."""


Answer = Granted | Busy | Exhausted


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowView:
    """One window as the ledger sees it now, as fresh as the ledger can say without asking anybody."""

    name: str
    start: datetime
    end: datetime
    limit: Amount
    """UNLIMITED's unit where none is set."""
    spent: Amount
    """Settled, presumed and overrun."""
    reserved: Amount
    """In flight in this process (Kubernetes) or everywhere (Redis, SQLite)."""

    @property
    def used_percent(self) -> float:
        """The larger of both units' percentages; 0 without limits."""
        from agentservice_api.budget import UNLIMITED

        pairs = ((self.spent.tokens, self.limit.tokens, UNLIMITED.tokens),
                 (self.spent.nano_usd, self.limit.nano_usd, UNLIMITED.nano_usd))  # fmt: skip
        return max(
            (100 if limit == 0 else 100 * spent / limit for spent, limit, none in pairs if limit != none), default=0.0
        )


class Bill(NamedTuple):
    """What one request was billed, as a `ModelSpend` has it, and not checked: that costs a request more than counting it."""

    name: str
    price: str
    tokens: int
    nano_usd: int

    @property
    def amount(self) -> Amount:
        """Both units."""
        return Amount(self.tokens, self.nano_usd)

    def checked(self) -> ModelSpend:
        """Return it as it stands in the books. Raises ValidationError for what cannot stand there."""
        return ModelSpend(name=self.name, price=self.price, tokens=self.tokens, nano_usd=self.nano_usd)


Spend = Bill | ModelSpend


class Ledger(Protocol):
    """A ledger. All methods are safe to call concurrently on the loop that opened it.

    A request id names one model request of one process for ever: repeating a call with it changes nothing further.
    Under Soft and Observe `reserve` always grants the bound, beyond a limit too.
    """

    @property
    def spec(self) -> LedgerSpec:
        """Limits, enforcement and prices in force now."""
        ...

    async def open(self) -> None:
        """Begin. Raises LedgerUnavailable when it cannot be reached; may be called again."""
        ...

    async def close(self) -> None:
        """Settle what is known and give back what is idle. Never raises."""
        ...

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        """Reserve ``bound``, or near a limit less, but at least ``minimum``, in every window. Raises LedgerUnavailable."""
        ...

    async def renew(self, request_id: str) -> None:
        """Say that the request still runs: every RENEW_SECONDS at least. Raises LedgerUnavailable."""
        ...

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        """Replace the reservation by what was billed, more than it or nothing at all included.

        What was billed is never dropped: a ledger that cannot be reached keeps it and tries again. A reservation that
        was presumed spent meanwhile is replaced all the same. An unknown id is counted as spend.
        """
        ...

    async def changed(self, seconds: float) -> None:
        """Return when a reservation that was BUSY may fit now, after at most ``seconds``."""
        ...

    def view(self) -> tuple[WindowView, ...]:
        """Return the current windows as last seen; cheap. Empty before the first look."""
        ...


@runtime_checkable
class AtOnce(Protocol):
    """A ledger that can mostly reserve and settle without I/O, as from a slice in hand: then nobody waits, and no task is made."""

    def reserve_now(self, request_id: str, bound: Amount) -> bool:
        """Do what `reserve` does, if all of ``bound`` can be granted at once. False: nothing was done, call `reserve`."""
        ...

    def settle_now(self, request_id: str, spend: Spend) -> bool:
        """Do what `settle` does, at once. False: nothing was done, call `settle`."""
        ...


LEASE_SECONDS = 30.0
"""After so long without renewal a reservation in Redis or SQLite is presumed spent."""
RENEW_SECONDS = LEASE_SECONDS / 3
