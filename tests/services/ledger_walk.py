"""A random walk through everything that may happen to an AgentLedger: pods that take, spend, lose, return and die, limits
that move, enforcement that is switched, zones that change, nights and months that pass, accounts that are presumed and
forgiven. Each step goes through `agentservice_api.budget.books`, as in the product.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agentservice_api.budget import (
    UNLIMITED,
    ZERO,
    Amount,
    Enforcement,
    LedgerSpec,
    LedgerStatus,
    ModelSpend,
    WindowLimit,
)
from agentservice_api.budget.books import (
    Posting,
    close,
    forgive_presumed,
    post,
    presume_all,
    presume_gone,
    roll,
)

BEGIN = datetime(2026, 3, 27, 9, tzinfo=UTC)
"""Two days before summer time begins in Europe, four before the month ends."""
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe")
MODELS = (("openai:gpt-4o", "genai-prices/1"), ("openai:gpt-4o", "spec/1:2"), ("test", ""))


@dataclass
class Walk:
    """The ledger and the hidden truth beside it."""

    random: random.Random
    spec: LedgerSpec = field(default_factory=lambda: limits(Enforcement.HARD, tokens=1000, nano_usd=5000))
    status: LedgerStatus = field(default_factory=LedgerStatus)
    now: datetime = BEGIN
    billed: dict[tuple[str, str], Amount] = field(default_factory=dict)
    """What was posted as spent into each window."""
    step: str = "begin"
    pods: int = 0

    def begin(self) -> None:
        """Seed the first windows."""
        self.status = roll(self.status.model_copy(update={"seeded": True}), self.spec, now=self.now)

    def steps(self) -> list[Callable[[], None]]:
        return [*[self.takes] * 4, *[self.spends] * 5, self.loses, self.finds, self.returns, self.dies, self.passes,
                self.closes, self.limits_change, self.forgives, self.presumes, self.many_at_once]  # fmt: skip

    def go(self) -> None:
        """Do one thing that may happen."""
        step = self.random.choice(self.steps())
        self.step = step.__name__
        step()

    def takes(self) -> None:
        need = self._amount(40)
        self._post(self._holder(), need=need, want=need + self._amount(100))

    def spends(self) -> None:
        # a provider may bill more than the hand holds, even more than the limit
        most = self.random.choice((20, 60, 600))
        self._post(self._holder(), spent=self._spend(most))

    def loses(self) -> None:
        self._post(self._holder(), lost=self._amount(50))

    def finds(self) -> None:
        self._post(self._holder(), lost=ZERO - self._amount(50), spent=self._spend(30))

    def returns(self) -> None:
        self._post(self._holder(), returned=self._amount(80))

    def many_at_once(self) -> None:
        self._post(
            self._holder(),
            spent=self._spend(40),
            lost=self._amount(10),
            returned=self._amount(20),
            need=self._amount(20),
            want=self._amount(90),
        )

    def dies(self) -> None:
        held = sorted({hand.holder for hand in self.status.holders})
        gone = set(self.random.sample(held, k=min(len(held), self.random.randint(0, 2))))
        self.status = presume_gone(self.status, gone.__contains__)

    def passes(self) -> None:
        self.now += timedelta(minutes=self.random.choice((5, 45, 600, 1500, 50_000)))
        self.status = roll(self.status, self.spec, now=self.now)

    def closes(self) -> None:
        self.status = close(self.status, now=self.now)

    def limits_change(self) -> None:
        self.spec = limits(
            self.random.choice(list(Enforcement)),
            tokens=self.random.choice((None, 0, 300, 1000, 5000)),
            nano_usd=self.random.choice((None, 0, 2000, 9000)),
            time_zone=self.random.choice(ZONES),
        )

    def forgives(self) -> None:
        if self.status.windows:
            self.status = forgive_presumed(self.status, self.random.choice(self.status.windows).key)

    def presumes(self) -> None:
        if self.random.random() < 0.2:
            self.status = presume_all(self.status, self.spec)

    def _post(
        self,
        holder: str,
        *,
        spent: tuple[ModelSpend, ...] = (),
        lost: Amount = ZERO,
        returned: Amount = ZERO,
        need: Amount = ZERO,
        want: Amount = ZERO,
    ) -> None:
        # late settlements find the window that they were reserved in
        late = self.random.random() < 0.15
        windows = [w for w in self.status.windows if late or w is self.status.current(w.name)]
        self.status, _ = post(
            self.status,
            self.spec,
            holder,
            [Posting(key=w.key, spent=spent, lost=lost, returned=returned, need=need, want=want) for w in windows],
        )
        for window in windows:
            billed = sum((spend.amount for spend in spent), ZERO)
            self.billed[window.key] = self.billed.get(window.key, ZERO) + billed

    def _holder(self) -> str:
        known = sorted({hand.holder for hand in self.status.holders})
        if known and self.random.random() < 0.8:
            return self.random.choice(known)
        self.pods += 1
        return f"pod-{self.pods}/word"

    def _amount(self, most: int) -> Amount:
        return Amount(self.random.randint(0, most), self.random.randint(0, 5 * most))

    def _spend(self, most: int) -> tuple[ModelSpend, ...]:
        name, price = self.random.choice(MODELS)
        amount = self._amount(most)
        return (ModelSpend(name=name, price=price, tokens=amount.tokens, nano_usd=amount.nano_usd),)


def limits(
    enforcement: Enforcement, *, tokens: int | None, nano_usd: int | None, time_zone: str = "Europe/Berlin"
) -> LedgerSpec:
    """The same limits for the day and, ten times, for the month."""
    month = (None if tokens is None else 10 * tokens, None if nano_usd is None else 10 * nano_usd)
    return LedgerSpec(
        enforcement=enforcement,
        time_zone=time_zone,
        windows=(
            WindowLimit(name="daily", tokens=tokens, nano_usd=nano_usd),
            WindowLimit(name="monthly", tokens=month[0], nano_usd=month[1]),
        ),
    )


def imbalance(status: LedgerStatus) -> list[str]:
    """Return what is wrong with the accounts, in words; empty when they are sound."""
    wrong = []
    for window in status.windows:
        held = sum((hand.held for hand in status.holders if hand.key == window.key), ZERO)
        if window.authorized != window.settled + window.presumed + held:
            wrong.append(f"{window.key}: authorized {window.authorized} is not the sum of {window.settled}, "
                         f"{window.presumed} and {held}")  # fmt: skip
        if sum((spend.amount for spend in window.models), ZERO) != window.settled + window.overrun:
            wrong.append(f"{window.key}: the models do not add up")
        for amount in (window.authorized, window.settled, window.presumed, window.overrun, window.wanted, held):
            if min(amount.tokens, amount.nano_usd) < 0 or not amount.fits(UNLIMITED):
                wrong.append(f"{window.key}: {amount} is no account")
    return wrong
