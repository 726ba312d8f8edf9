"""The provider's own count of what it was sent and billed, by window: the truth that a ledger is held against."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from agentservice_api.budget import ZERO, Amount, LedgerSpec, WindowKey


@dataclass(frozen=True, kw_only=True)
class Request:
    """One that is running."""

    name: str
    process: str
    keys: tuple[WindowKey, ...]
    amount: Amount
    """It may cost so much."""
    since: float
    wish: object
    """What it was asked with."""


@dataclass
class Count:
    """One window."""

    billed: Amount = ZERO
    in_flight: Amount = ZERO
    beyond: Amount = ZERO
    """Billed by the provider beyond what it was told: nobody can foresee that."""
    unprovable: Amount = ZERO
    """Of this, what nobody wrote down because its process died, or its window had closed."""
    ceiling: Amount = ZERO
    """The highest limit that was in force in it."""

    @property
    def used(self) -> Amount:
        return self.billed + self.in_flight


@dataclass
class Provider:
    """All windows."""

    counts: dict[WindowKey, Count] = field(default_factory=lambda: defaultdict(Count))
    running: list[Request] = field(default_factory=list)
    beyond_of: dict[str, dict[WindowKey, Amount]] = field(default_factory=lambda: defaultdict(dict))

    def send(self, request: Request, spec: LedgerSpec) -> None:
        """Begin a request. ``spec`` is in force."""
        self.running.append(request)
        for key in request.keys:
            count = self.counts[key]
            count.in_flight += request.amount
            count.ceiling = count.ceiling.at_least(spec.limit(key[0]))

    def bill(self, request: Request, cost: Amount) -> None:
        """End a request."""
        self.running.remove(request)
        beyond = (cost - request.amount).non_negative()
        for key in request.keys:
            count = self.counts[key]
            count.in_flight -= request.amount
            count.billed += cost
            count.beyond += beyond
            if beyond:
                known = self.beyond_of[request.process]
                known[key] = known.get(key, ZERO) + beyond

    def raise_ceilings(self, keys: tuple[WindowKey, ...], spec: LedgerSpec) -> None:
        """Take note of terms that are put in force while these windows run."""
        for key in keys:
            count = self.counts[key]
            count.ceiling = count.ceiling.at_least(spec.limit(key[0]))

    def died(self, process: str) -> None:
        """What a process was billed beyond its reservations may have died with it."""
        for key, beyond in self.beyond_of.pop(process, {}).items():
            self.counts[key].unprovable += beyond
