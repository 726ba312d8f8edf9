"""Amounts are whole, and whether one fits is decided the same everywhere."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentservice_api.budget import UNLIMITED, ZERO, Amount, Verdict, decide, nano_from_usd, usd_string
from agentservice_api.budget.amount import MAX_UNITS

UNITS = st.integers(0, 10_000)
AMOUNTS = st.builds(Amount, UNITS, UNITS)
LIMITS = AMOUNTS | st.builds(Amount, UNITS, st.just(MAX_UNITS)) | st.builds(Amount, st.just(MAX_UNITS), UNITS)


@given(st.decimals(0, 999_999, places=9))
def test_dollars_survive_the_way_to_nano_dollars_and_back(usd: Decimal) -> None:
    assert Decimal(usd_string(nano_from_usd(usd))) == usd
    assert "E" not in usd_string(nano_from_usd(usd))


def test_a_part_of_a_nano_dollar_is_owed_in_full() -> None:
    assert nano_from_usd("0.0000000001") == 1
    assert nano_from_usd(Decimal(0)) == 0


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (1, "0.000000001"), (10**9, "1"), (1_500_000_000, "1.5"), (25 * 10**10, "250")]
)
def test_dollars_are_written_without_zeros_that_say_nothing(nano: int, text: str) -> None:
    assert usd_string(nano) == text


def test_dollars_can_be_rounded_for_people() -> None:
    assert usd_string(9_876_543_210, decimals=2) == "9.88"


def test_the_largest_limit_that_can_be_written_is_exact_as_a_double() -> None:
    assert nano_from_usd("999999.999999999") < MAX_UNITS
    assert int(float(MAX_UNITS)) == MAX_UNITS


@given(AMOUNTS, AMOUNTS)
def test_fitting_holds_unit_by_unit(one: Amount, other: Amount) -> None:
    assert one.fits(other) == (one.tokens <= other.tokens and one.nano_usd <= other.nano_usd)
    assert one.at_most(other).fits(one)
    assert one.fits(one.at_least(other))
    assert (one - other + other) == one
    assert ZERO.fits((one - other).non_negative())


@given(LIMITS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_grant_never_passes_the_limit_and_is_never_less_than_the_minimum(
    limit: Amount, spent: Amount, reserved: Amount, bound: Amount, least: Amount
) -> None:
    minimum = least.at_most(bound)
    verdict, granted = decide(limit=limit, spent=spent, reserved=reserved, bound=bound, minimum=minimum)
    if verdict is Verdict.GRANT:
        assert (spent + reserved + granted).fits(limit)
        assert minimum.fits(granted)
        assert granted.fits(bound)
    else:
        assert granted == ZERO
        assert not (spent + reserved + bound).fits(limit)


@given(LIMITS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_busy_means_that_waiting_can_help_and_exhausted_that_it_cannot(
    limit: Amount, spent: Amount, reserved: Amount, bound: Amount, least: Amount
) -> None:
    minimum = least.at_most(bound)
    verdict, _ = decide(limit=limit, spent=spent, reserved=reserved, bound=bound, minimum=minimum)
    alone, _ = decide(limit=limit, spent=spent, reserved=ZERO, bound=bound, minimum=minimum)
    if verdict is Verdict.BUSY:
        assert alone is Verdict.GRANT
    if verdict is Verdict.EXHAUSTED:
        assert alone is Verdict.EXHAUSTED
        assert not (spent + minimum).fits(limit)


@given(LIMITS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_more_that_is_spent_never_brings_an_exhausted_window_back(
    limit: Amount, spent: Amount, more: Amount, reserved: Amount, bound: Amount, least: Amount
) -> None:
    minimum = least.at_most(bound)
    before, _ = decide(limit=limit, spent=spent, reserved=reserved, bound=bound, minimum=minimum)
    assume(before is Verdict.EXHAUSTED)
    after, _ = decide(limit=limit, spent=spent + more, reserved=reserved, bound=bound, minimum=minimum)
    assert after is Verdict.EXHAUSTED


def test_near_the_limit_the_answer_is_cut_short_instead_of_refused() -> None:
    limit, spent = Amount(1000, MAX_UNITS), Amount(950, 0)
    asked = {"limit": limit, "spent": spent, "bound": Amount(100, 7), "minimum": Amount(20, 1)}
    assert decide(reserved=ZERO, **asked) == (Verdict.GRANT, Amount(50, 7))
    assert decide(reserved=Amount(40, 0), **asked) == (Verdict.BUSY, ZERO)


def test_without_a_limit_everything_fits() -> None:
    huge = Amount(10**12, 10**12)
    assert decide(limit=UNLIMITED, spent=huge, reserved=huge, bound=huge, minimum=huge) == (Verdict.GRANT, huge)
