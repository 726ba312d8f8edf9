"""What the bench of budgets says of its own figures."""

import math

from tests.bench.budgets import load, table
from tests.bench.budgets.faults import by_day
from tests.bench.budgets.figures import Figure, Range, declared, outside
from tests.bench.budgets.model_server import Bill

from agentservice_api.budget import Amount


def test_the_first_range_that_matches_a_figure_holds():
    ranges = (
        Range(figures="table/loose/*", least=0, most=100),
        Range(figures="table/*", least=0, most=0),
    )
    figures = (Figure("table/loose/over", 7), Figure("table/strict/over", 0), Figure("table/strict/over", 0.01))
    assert list(outside(figures, ranges)) == ["table/strict/over is 0.01, outside of 0 to 0"]


def test_a_figure_without_a_range_is_told():
    assert list(outside([Figure("new", 1)], [])) == ["new is 1, and no range is declared for it"]


def test_a_figure_that_is_no_number_is_outside_of_every_range():
    assert list(outside([Figure("x", math.nan)], [Range(figures="x", least=-math.inf, most=math.inf)]))


def test_no_ledger_may_overspend_but_the_one_that_adds_afterwards():
    rows = [
        table.Row(
            kind=kind, processes=4, requests=200, over_percent=0.001, used_percent=100, served=1, refused=1,
            timed_out=0, seconds=1,
        )
        for kind in table.KINDS
    ]  # fmt: skip
    wrong = list(outside([figure for row in rows for figure in row.figures()], declared()))
    assert len(wrong) == len(table.KINDS)


def test_overspend_is_counted_in_the_unit_that_is_worse():
    assert table.over_percent(Amount(90, 120), Amount(100, 100)) == 20
    assert table.over_percent(Amount(100, 100), Amount(100, 100)) == 0
    assert table.used_percent(Amount(90, 95), Amount(100, 100)) == 95


def test_a_grant_near_the_limit_pays_for_what_it_lets_the_model_say():
    for granted in (load.BOUND, load.MINIMUM, Amount(load.MINIMUM.tokens + 7, load.BOUND.nano_usd)):
        cap = load.cap_within(granted)
        assert load.LEAST <= cap <= load.CAP
        assert load.price(prompt=load.INPUT_BOUND, answer=cap).fits(granted)


def test_what_is_billed_is_added_up_by_day():
    bills = [Bill(tokens=1, nano_usd=10, at=0, day=day) for day in ("a", "b", "a")]
    assert by_day(bills) == {"a": Amount(2, 20), "b": Amount(1, 10)}
