"""What the accounts of a budget say: shares, forecasts, a month's charges, limits that would have fitted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentservice_cli.cluster.accounts import account_of, charges, clock, holders, lines, suggestion
from agentservice_cli.exits import CliError

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def window(name: str = "daily", **more: Any) -> dict[str, Any]:
    bounds = {
        "daily": ("2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
        "monthly": ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    }
    start, end = bounds[name]
    return {"name": name, "start": start, "end": end, **more}


def ledger(*, limits: list[dict[str, Any]] | None = None, zone: str = "UTC", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "support", "namespace": "team-a"},
        "spec": {"timeZone": zone, "windows": limits if limits is not None else [{"name": "daily", "tokens": 1000}]},
        "status": {"seeded": True, **status},
    }


def test_the_unit_that_is_nearer_to_its_limit_counts() -> None:
    limits = [{"name": "daily", "tokens": 1000, "nanoUSD": 10_000_000_000}]
    spent = window(settledTokens=100, settledNanoUSD=5_000_000_000, presumedNanoUSD=1_000_000_000)
    (line,) = lines(account_of(ledger(limits=limits, windows=[spent])), now=NOON)
    assert line.percent == 60
    assert line.document()["spent"] == {"tokens": 100, "usd": "6"}


def test_after_midnight_the_new_day_is_shown_empty_before_any_pod_has_opened_it() -> None:
    account = account_of(ledger(windows=[window(settledTokens=5)]))
    (line,) = lines(account, now=NOON + timedelta(days=1))
    assert (line.start, line.end) == (datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 11, 27, tzinfo=UTC))
    assert (line.spent.tokens, line.percent, line.limit.tokens) == (0, 0, 1000)
    assert holders(account, now=NOON + timedelta(days=1)) == ()


def test_a_reset_is_told_in_the_budgets_zone_and_in_the_readers() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert clock(NOON, berlin, here=UTC) == "2026-11-25 13:00 CET (here 2026-11-25 12:00 UTC)"
    assert clock(NOON, berlin, here=berlin) == "2026-11-25 13:00 CET"


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        (600, datetime(2026, 11, 25, 20, tzinfo=UTC)),  # 50 an hour
        (400, None),  # lasts until midnight
        (0, None),
        (1000, NOON),
        (1500, NOON),
    ],
)
def test_the_forecast_goes_on_at_the_rate_since_the_window_began(spent: int, expected: datetime | None) -> None:
    (line,) = lines(account_of(ledger(windows=[window(settledTokens=spent)])), now=NOON)
    assert line.exhausted_at == expected


def test_a_young_window_and_one_without_a_limit_forecast_nothing() -> None:
    account = account_of(ledger(windows=[window(settledTokens=900), window("monthly", settledTokens=900)]))
    daily, _ = lines(account, now=datetime(2026, 11, 25, 0, 4, tzinfo=UTC))
    assert daily.exhausted_at is None
    _, monthly = lines(account, now=NOON)
    assert (monthly.percent, monthly.exhausted_at) == (None, None)


def test_the_largest_hand_comes_first_and_empty_ones_not_at_all() -> None:
    hand = {"window": "daily", "start": "2026-11-25T00:00:00Z"}
    hands = [{**hand, "holder": h, "tokens": t} for h, t in (("a/1", 5), ("b/2", 50), ("c/3", 0))]
    account = account_of(ledger(windows=[window(authorizedTokens=55)], holders=hands))
    assert [h.holder for h in holders(account, now=NOON)] == ["b/2", "a/1"]


def test_a_months_charges_are_by_model_with_what_is_presumed_beside_them() -> None:
    closed = {
        "name": "monthly",
        "start": "2026-09-30T22:00:00Z",
        "end": "2026-10-31T23:00:00Z",
        "tokens": 30,
        "presumedTokens": 7,
        "models": [{"name": "b", "price": "spec/1", "tokens": 20, "nanoUSD": 5}, {"name": "a", "tokens": 10}],
    }
    days = {**closed, "name": "daily"}
    running = window("monthly", models=[{"name": "a", "tokens": 1}])
    account = account_of(ledger(zone="Europe/Berlin", windows=[running], closed=[days, closed]))
    found = charges([account], month="2026-10", groups={("team-a", "support"): "research"})
    assert [(c.group, c.agent, c.model, c.tokens, c.usd, c.is_open) for c in found] == [
        ("research", "support", "a", 10, "0", False),
        ("research", "support", "b", 20, "0.000000005", False),
        ("research", "support", "presumed", 7, "0", False),
    ]
    (open_one,) = charges([account], month="2026-11", groups={})
    assert (open_one.tokens, open_one.is_open, open_one.group) == (1, True, "")


def test_suggested_limits_would_have_fitted_the_days_that_were_seen() -> None:
    days = [
        {
            "name": "daily",
            "start": f"2026-10-{d:02}T00:00:00Z",
            "end": f"2026-10-{d + 1:02}T00:00:00Z",
            "tokens": 100 * d,
            "nanoUSD": d,
        }
        for d in range(1, 21)
    ]
    found = suggestion(account_of(ledger(closed=days)), headroom=0.25)
    assert found is not None
    assert (found.days, found.daily.tokens) == (20, 2500)
    assert found.monthly.tokens == round(1050 * 31 * 1.25)
    assert suggestion(account_of(ledger()), headroom=0.25) is None


def test_a_ledger_of_another_version_is_no_traceback() -> None:
    with pytest.raises(CliError, match="cannot be read"):
        account_of(ledger(windows="none"))
