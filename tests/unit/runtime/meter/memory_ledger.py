"""A ledger of one process, right by `decision.decide`, that remembers everything for the tests that use it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from agentservice_api.budget import ZERO, Amount, LedgerSpec, ModelSpend, Verdict, decide
from agentservice_runtime.ledger.interface import (
    Answer,
    Busy,
    Exhausted,
    Granted,
    LedgerUnavailable,
    WindowView,
)
from agentservice_runtime.meter.desk import Desk
from agentservice_runtime.meter.meter import Meter
from agentservice_runtime.meter.observed import Observed


@dataclass
class MemoryLedger:
    """One daily window. ``spec`` may be changed at any time; ``is_away`` makes it unavailable."""

    spec: LedgerSpec
    is_away: bool = False
    resets_in: float = 3600.0
    reserved: dict[str, Amount] = field(default_factory=dict[str, Amount])
    granted: list[Amount] = field(default_factory=list[Amount])
    spends: list[ModelSpend] = field(default_factory=list[ModelSpend])
    renewed: list[str] = field(default_factory=list[str])
    loops: set[asyncio.AbstractEventLoop] = field(default_factory=set[asyncio.AbstractEventLoop])
    opened: int = 0

    def __post_init__(self) -> None:
        self._settled = asyncio.Event()

    @property
    def spent(self) -> Amount:
        return sum((spend.amount for spend in self.spends), ZERO)

    @property
    def in_flight(self) -> Amount:
        return sum(self.reserved.values(), ZERO)

    def _used(self) -> None:
        self.loops.add(asyncio.get_running_loop())
        if self.is_away:
            raise LedgerUnavailable("away")

    async def open(self) -> None:
        self._used()
        self.opened += 1

    async def close(self) -> None:
        pass

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        self._used()
        if request_id in self.reserved:
            return Granted(amount=self.reserved[request_id])
        amount = bound
        if self.spec.is_hard:
            verdict, amount = decide(
                limit=self.spec.limit("daily"), spent=self.spent, reserved=self.in_flight, bound=bound, minimum=minimum
            )
            if verdict is Verdict.BUSY:
                return Busy(retry_after=0.05)
            if verdict is Verdict.EXHAUSTED:
                return Exhausted(window="daily", resets_in=self.resets_in)
        self.reserved[request_id] = amount
        self.granted.append(amount)
        return Granted(amount=amount)

    async def renew(self, request_id: str) -> None:
        self._used()
        self.renewed.append(request_id)

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        self.loops.add(asyncio.get_running_loop())
        self.reserved.pop(request_id, None)
        if spend.amount:
            self.spends.append(spend)
        self._settled.set()

    async def changed(self, seconds: float) -> None:
        self._settled.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            pass

    def view(self) -> tuple[WindowView, ...]:
        now = datetime.now(UTC)
        limit = self.spec.limit("daily")
        return (WindowView(name="daily", start=now, end=now, limit=limit, spent=self.spent, reserved=self.in_flight),)


async def meter_over(ledger: MemoryLedger, *, patience_seconds: float = 10, serves_unreserved: bool = False) -> Meter:
    """Return a meter whose desk is open on the running loop."""
    observed = Observed(CollectorRegistry(), agent_name="a")
    desk = Desk(ledger, patience_seconds=patience_seconds)
    meter = Meter(desk, observed=observed, serves_unreserved=serves_unreserved)
    await desk.open()
    return meter
