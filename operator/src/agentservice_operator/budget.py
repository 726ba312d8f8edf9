"""Decides how a budget stands, from its ledger: the state in the status, its condition, and what is worth an Event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentservice_api import EventReason, Reason
from agentservice_api.budget import UNLIMITED, WINDOWS, Amount, LedgerSpec, LedgerStatus, WindowState, usd_string
from agentservice_api.budget.amount import NANO_PER_USD
from agentservice_api.budget.books import roll
from agentservice_api.spec import BudgetSpec
from agentservice_api.status import BudgetState, BudgetStatus, WindowStatus
from agentservice_operator.ledger import Account
from agentservice_operator.manifest import Manifest
from agentservice_operator.report import Announcement
from agentservice_operator.rollout import Verdict

FULL: Final = 100
NEARLY: Final = 80
"""Percent from which on a request that can never fit means that the budget is spent, and not that the request is too large."""
REARM: Final = 10
"""Points by which usage must fall below a percentage until it is announced again: a raised limit does, a late settlement does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One current window."""

    name: str
    start: str
    end: str
    limit: Amount
    """UNLIMITED's unit where none is set."""
    spent: Amount
    """Settled, presumed and overrun."""
    held: Amount
    """In the hands of pods or of Redis, reserved or to be reserved."""
    presumed: Amount
    overrun: Amount
    wanted: Amount

    @property
    def percent(self) -> int | None:
        """Whole percents of the limit that is nearest, rounded down; None without a limit."""
        return max((FULL if limit == 0 else FULL * spent // limit for spent, limit, _ in self._limited()), default=None)

    @property
    def level(self) -> int:
        """The percentage that is spent as people are told it: 100 at most, and at once when nothing fits any more."""
        return FULL if self.is_spent else min(self.percent or 0, FULL)

    @property
    def is_spent(self) -> bool:
        """Whether a limit is reached, or is so near that what somebody waits for can never fit."""
        return any(spent >= limit for spent, limit, _ in self._limited()) or (
            (self.percent or 0) >= NEARLY and any(wanted > held for _, _, (wanted, held) in self._limited())
        )

    def _limited(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        if self.limit.tokens != UNLIMITED.tokens:
            yield self.spent.tokens, self.limit.tokens, (self.wanted.tokens, self.held.tokens)
        if self.limit.nano_usd != UNLIMITED.nano_usd:
            yield self.spent.nano_usd, self.limit.nano_usd, (self.wanted.nano_usd, self.held.nano_usd)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A budget and how it stands."""

    budget: BudgetSpec
    prices: Verdict
    """The condition PricesResolved."""
    windows: tuple[Figures, ...]
    """Empty while nobody knows."""
    state: BudgetState


def figures(account: Account | None, *, now: datetime) -> tuple[Figures, ...]:
    """Return the windows that hold ``now``, opened in thought where no pod has needed them yet; none while not seeded."""
    if account is None or not account.status.seeded:
        return ()
    status = roll(account.status, account.spec, now=now)
    current = (status.current(name) for name in WINDOWS)
    return tuple(_figures(status, account.spec, window) for window in current if window is not None)


def standing(budget: BudgetSpec, prices: Verdict, windows: tuple[Figures, ...]) -> Standing:
    """Return how ``budget`` stands. ``prices`` is the condition PricesResolved."""
    return Standing(budget=budget, prices=prices, windows=windows, state=_state(budget, windows))


def _figures(status: LedgerStatus, spec: LedgerSpec, window: WindowState) -> Figures:
    held = sum((hand.held for hand in status.holders if hand.key == window.key), Amount())
    return Figures(
        name=window.name,
        start=window.start,
        end=window.end,
        limit=spec.limit(window.name),
        spent=window.spent,
        held=held,
        presumed=window.presumed,
        overrun=window.overrun,
        wanted=window.wanted,
    )


def _state(budget: BudgetSpec, windows: tuple[Figures, ...]) -> BudgetState:
    if not windows:
        return BudgetState.UNKNOWN
    if budget.is_hard and any(window.is_spent for window in windows):
        return BudgetState.EXHAUSTED
    first = min((*budget.alert_at_percent, FULL))
    if any((window.percent or 0) >= first for window in windows):
        return BudgetState.WARNING
    return BudgetState.OK


def budget_status(now: Standing, previous: BudgetStatus | None) -> Manifest:
    """Return `status.budget`. What is not known any more stays as it was: it says that there are accounts somewhere."""
    if not now.windows:
        known = previous.model_dump(mode="json", by_alias=True, exclude_none=True) if previous is not None else {}
        return {**known, "state": now.state.value}
    windows: dict[str, Any] = {
        window.name: _window(window, now.budget, getattr(previous, window.name, None)) for window in now.windows
    }
    return {"state": now.state.value, **windows}


def _window(window: Figures, budget: BudgetSpec, previous: WindowStatus | None) -> Manifest:
    told: Manifest = {
        "start": window.start,
        "end": window.end,
        "tokens": window.spent.tokens,
        "costUSD": _dollars(window.spent.nano_usd),
    }
    if window.percent is not None:
        told["percent"] = window.percent
    alerted = max((_armed(window, previous), *_passed(window, budget)), default=0)
    if alerted:
        told["alerted"] = alerted
    if window.overrun:
        told["overran"] = True
    return told


def _dollars(nano_usd: int) -> str:
    """Return cents where there are dollars, and enough digits to see something where there are not."""
    return usd_string(nano_usd, decimals=2 if nano_usd >= NANO_PER_USD else 6)


def _passed(window: Figures, budget: BudgetSpec) -> list[int]:
    return sorted(percent for percent in {*budget.alert_at_percent, FULL} if percent <= window.level)


def _armed(window: Figures, previous: WindowStatus | None) -> int:
    """Return the highest percentage of this window that need not be announced again."""
    if previous is None or previous.start != window.start:
        return 0
    alerted = previous.alerted or 0
    return alerted if window.level > alerted - REARM else 0


def is_usage_alone(old: Manifest | None, new: Manifest | None) -> bool:
    """Tell whether two `status.budget` differ in nothing but how much is spent."""
    return old is not None and new is not None and _without_usage(old) == _without_usage(new)


def _without_usage(told: Manifest) -> Manifest:
    usage = ("tokens", "costUSD", "percent")
    windows: Manifest = {name: told.get(name) or {} for name in WINDOWS}
    stays = {
        name: {key: value for key, value in window.items() if key not in usage} for name, window in windows.items()
    }
    return {**told, **stays}


def budget_available(now: Standing) -> Verdict:
    """Return the condition BudgetAvailable. Its message changes with the state, not with every request."""
    if now.state is BudgetState.UNKNOWN:
        return Verdict(
            status="Unknown",
            reason=Reason.LEDGER_NOT_SEEDED,
            message="the AgentLedger has no accounts yet; requests are answered 503 until it has",
        )
    # The one that lasts longest: the other's end would change nothing.
    spent = max((window for window in now.windows if window.is_spent), key=lambda window: window.end, default=None)
    if spent is not None and now.budget.is_hard:
        return Verdict(
            status="False",
            reason=Reason.BUDGET_EXHAUSTED,
            message=f"the {spent.name} budget is spent: requests are refused until {spent.end}; to go on before, raise budget.{spent.name}",
        )
    if spent is not None:
        return Verdict(
            status="True",
            reason=Reason.BUDGET_EXCEEDED,
            message=f"more than the {spent.name} budget is spent, which {now.budget.enforcement.value} does not refuse; "
            f"it begins anew at {spent.end}",
        )
    warned = [(passed[-1], window) for window in now.windows if (passed := _passed(window, now.budget))]
    if warned:
        percent, window = max(warned, key=lambda pair: pair[0])
        return Verdict(
            status="True",
            reason=Reason.BUDGET_WARNING,
            message=f"{percent} % or more of the {window.name} budget is spent; it begins anew at {window.end}",
        )
    return Verdict(status="True", reason=Reason.WITHIN_BUDGET, message="there is budget left")


def budget_announcements(now: Standing, before: BudgetStatus | None) -> Iterator[Announcement]:
    """Yield what a person would want to hear of the change from the stored ``before``."""
    for window in now.windows:
        previous: WindowStatus | None = getattr(before, window.name, None)
        told = _armed(window, previous)
        for percent in _passed(window, now.budget):
            if percent > told:
                yield _crossed(window, percent, now.budget)
        overran = previous is not None and previous.start == window.start and previous.overran
        if window.overrun and not overran:
            yield _overran(window)
    if (
        before is not None
        and before.state is BudgetState.EXHAUSTED
        and now.state in (BudgetState.OK, BudgetState.WARNING)
    ):
        yield Announcement(
            reason=EventReason.BUDGET_RESET.value, action="Budget", note="there is budget again: requests are served"
        )


def _crossed(window: Figures, percent: int, budget: BudgetSpec) -> Announcement:
    if percent < FULL:
        note = f"{percent} % of the {window.name} budget is spent; it begins anew at {window.end}"
        return Announcement(reason=EventReason.BUDGET_THRESHOLD.value, action="Budget", note=note, warning=True)
    what = "requests are refused" if budget.is_hard else f"{budget.enforcement.value} serves on"
    note = f"the {window.name} budget is spent; {what} until {window.end}"
    return Announcement(reason=EventReason.BUDGET_LIMIT_REACHED.value, action="Budget", note=note, warning=True)


def _overran(window: Figures) -> Announcement:
    amount = window.overrun
    return Announcement(
        reason=EventReason.BUDGET_OVERRUN.value,
        action="Budget",
        note=f"a provider billed {amount.tokens} tokens and {usd_string(amount.nano_usd)} USD beyond the {window.name} budget: "
        "more than the most that was reckoned with",
        warning=True,
    )
