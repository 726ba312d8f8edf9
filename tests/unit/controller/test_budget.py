"""How a budget stands, and what is said of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from agentservice_api import Reason
from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, ModelSpend, WindowLimit
from agentservice_api.budget.books import Posting, post, presume_all, roll
from agentservice_api.budget.terms import ledger_spec
from agentservice_api.status import BudgetStatus
from agentservice_operator.budget import (
    Standing,
    budget_announcements,
    budget_available,
    budget_status,
    figures,
    is_usage_alone,
    standing,
)
from agentservice_operator.ledger import account
from agentservice_operator.rollout import Verdict

from .builders import agent_service
from .test_ledger import MIDNIGHT, NOON, POD, stored

DAY = {"tokens": 1000}
PRICED = Verdict(status="True", reason=Reason.PRICED, message="")


def spent(
    tokens: int,
    *,
    held: int = 0,
    want: int = 0,
    budget: dict[str, Any] | None = None,
    now: datetime = NOON,
    both: bool = False,
) -> Standing:
    """A budget of 1000 tokens a day of which so many are spent, held by a pod and wanted beyond that."""
    wanted = agent_service(budget=budget or {"daily": DAY})
    terms = ledger_spec(wanted.spec, price_book=None)
    status = roll(LedgerStatus(seeded=True), terms, now=NOON)
    day = status.current("daily")
    assert day is not None
    bill = (ModelSpend(name="m", tokens=tokens),) if tokens else ()
    billed = status.windows if both else (day,)
    status, _ = post(status, terms, POD, [Posting(key=window.key, spent=bill) for window in billed])
    status, _ = post(status, terms, POD, [Posting(key=day.key, need=Amount(held, 0), want=Amount(held, 0))])
    if want:
        status, _ = post(status, terms, POD, [Posting(key=day.key, need=Amount(want, 0))])
    assert wanted.spec.budget is not None
    return standing(wanted.spec.budget, PRICED, figures(account(stored(terms, status)), now=now))


def told(now: Standing, before: Standing | None = None) -> BudgetStatus:
    previous = told(before) if before is not None else None
    return BudgetStatus.model_validate(budget_status(now, previous))


def said(now: Standing, before: Standing | None = None) -> list[tuple[str, str]]:
    found = budget_announcements(now, told(before) if before is not None else None)
    return [(announcement.reason, announcement.note.split(" budget")[0]) for announcement in found]


@pytest.mark.parametrize(
    ("tokens", "state", "percent"),
    [(0, "OK", 0), (799, "OK", 79), (800, "Warning", 80), (999, "Warning", 99), (1000, "Exhausted", 100)],
)
def test_the_state_follows_the_first_alert_and_the_limit(tokens: int, state: str, percent: int) -> None:
    status = told(spent(tokens))
    assert status.daily is not None
    assert (status.state, status.daily.percent, status.daily.tokens) == (state, percent, tokens)
    assert status.monthly is not None
    assert status.monthly.percent is None


def test_what_is_presumed_counts_as_spent() -> None:
    terms = LedgerSpec(windows=(WindowLimit(name="daily", tokens=1000),))
    status = presume_all(roll(LedgerStatus(seeded=True), terms, now=NOON), terms)
    day, _ = figures(account(stored(terms, status)), now=NOON)
    assert (day.percent, day.spent, day.presumed) == (100, Amount(1000, 0), Amount(1000, 0))


def test_what_pods_hold_is_not_spent() -> None:
    day = spent(500, held=500).windows[0]
    assert (day.percent, day.held) == (50, Amount(500, 0))


def test_a_soft_budget_is_never_exhausted() -> None:
    soft = spent(1200, budget={"enforcement": "Soft", "daily": DAY})
    assert told(soft).state == "Warning"
    verdict = budget_available(soft)
    assert (verdict.status, verdict.reason.value) == ("True", "BudgetExceeded")


def test_a_rest_that_nothing_fits_into_is_exhausted() -> None:
    assert told(spent(950, want=200)).state == "Exhausted"
    assert told(spent(950, held=40, want=30)).state == "Warning", "what is held may come back"
    assert told(spent(100, want=2000)).state == "OK", "one request that is too large for any day"


def test_a_hard_budget_that_is_spent_says_until_when_and_how_to_go_on_before() -> None:
    verdict = budget_available(spent(1000))
    assert (verdict.status, verdict.reason.value) == ("False", "BudgetExhausted")
    assert "2026-11-24T00:00:00Z" in verdict.message
    assert "raise budget.daily" in verdict.message


def test_a_limit_of_nothing_is_spent_from_the_start() -> None:
    assert told(spent(0, budget={"daily": {"tokens": 0}})).state == "Exhausted"


def test_without_accounts_the_state_is_unknown_and_what_was_known_stays() -> None:
    known = spent(700)
    unknown = standing(known.budget, PRICED, ())
    assert budget_available(unknown).status == "Unknown"
    status = told(unknown, before=known)
    assert status.state == "Unknown"
    assert status.daily is not None
    assert status.daily.tokens == 700


def test_a_window_that_nobody_has_opened_yet_shows_as_new() -> None:
    status = told(spent(900, now=MIDNIGHT + timedelta(hours=1)))
    assert status.daily is not None
    assert (status.state, status.daily.start, status.daily.percent) == ("OK", "2026-11-24T00:00:00Z", 0)


def test_each_percentage_is_announced_once_a_window() -> None:
    assert said(spent(799)) == []
    assert said(spent(800), spent(799)) == [("BudgetThreshold", "80 % of the daily")]
    assert said(spent(900), spent(800)) == []
    assert said(spent(1000), spent(900)) == [
        ("BudgetThreshold", "95 % of the daily"),
        ("BudgetLimitReached", "the daily"),
    ]


def test_a_late_settlement_that_frees_a_little_announces_nothing_again() -> None:
    first, second = told(spent(800)), spent(795)
    then = BudgetStatus.model_validate(budget_status(second, first))
    assert [*budget_announcements(spent(801), then)] == []


def test_a_raised_limit_lets_its_percentages_be_announced_again() -> None:
    raised = spent(800, budget={"daily": {"tokens": 2000}})
    then = BudgetStatus.model_validate(budget_status(raised, told(spent(800))))
    again = spent(1600, budget={"daily": {"tokens": 2000}})
    assert [a.reason for a in budget_announcements(again, then)] == ["BudgetThreshold"]


def test_the_next_window_announces_anew() -> None:
    yesterday = told(spent(1000))
    today = spent(0, now=MIDNIGHT)
    assert [a.reason for a in budget_announcements(today, yesterday)] == ["BudgetReset"]
    then = BudgetStatus.model_validate(budget_status(today, yesterday))
    assert then.daily is not None
    assert then.daily.alerted is None


def test_what_a_provider_bills_beyond_the_limit_is_announced_once() -> None:
    over = spent(1500)
    assert over.windows[0].overrun == Amount(500, 0)
    assert "BudgetOverrun" in [reason for reason, _ in said(over, spent(900))]
    assert "BudgetOverrun" not in [reason for reason, _ in said(spent(1600), over)]


def test_usage_alone_is_told_from_a_change_of_state() -> None:
    def of(now: Standing) -> dict[str, Any]:
        return budget_status(now, None)

    assert is_usage_alone(of(spent(100)), of(spent(700)))
    assert not is_usage_alone(of(spent(700)), of(spent(800)))
    assert not is_usage_alone(of(spent(800)), of(spent(960))), "95 % is announced"
    assert not is_usage_alone(of(spent(100)), of(spent(0, now=MIDNIGHT)))
    assert not is_usage_alone(None, of(spent(100)))


def test_money_is_shown_in_cents_and_finer_where_there_are_none() -> None:
    def cost(nano: int) -> str:
        terms = LedgerSpec(windows=(WindowLimit(name="daily", nano_usd=10**12),))
        status = roll(LedgerStatus(seeded=True), terms, now=NOON)
        day = status.current("daily")
        assert day is not None
        status, _ = post(status, terms, POD, [Posting(key=day.key, spent=(ModelSpend(name="m", nano_usd=nano),))])
        wanted = agent_service(budget={"daily": {"costUSD": "1000"}}).spec.budget
        assert wanted is not None
        seen = told(standing(wanted, PRICED, figures(account(stored(terms, status)), now=NOON)))
        assert seen.daily is not None
        return seen.daily.cost_usd

    assert [cost(9_870_000_000), cost(4_500_000)] == ["9.87", "0.004500"]


def test_a_ledger_without_accounts_has_no_figures() -> None:
    assert figures(None, now=NOON) == ()
    assert figures(account(stored()), now=NOON) == ()


def test_with_both_windows_spent_the_later_end_is_told() -> None:
    verdict = budget_available(spent(1000, budget={"daily": DAY, "monthly": {"tokens": 1000}}, both=True))
    assert "the monthly budget is spent" in verdict.message
    assert "2026-12-01T00:00:00Z" in verdict.message
