"""The ledger in a file: what it grants, what it counts, and what it does with the dead and the late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentservice_api.budget import Amount, Enforcement, LedgerSpec, ModelSpend, WindowLimit
from agentservice_runtime.ledger.interface import Busy, Exhausted, Granted, LedgerUnavailable
from agentservice_runtime.ledger.sqlite import SQLiteLedger


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def terms(
    tokens: int | None = 1000, *, monthly: int | None = None, enforcement: Enforcement = Enforcement.HARD, **more: Any
) -> LedgerSpec:
    windows = [WindowLimit(name="daily", tokens=tokens)]
    if monthly is not None:
        windows.append(WindowLimit(name="monthly", tokens=monthly))
    return LedgerSpec(windows=tuple(windows), enforcement=enforcement, **more)


def spend(tokens: int, model: str = "m") -> ModelSpend:
    return ModelSpend(name=model, price="p", tokens=tokens)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteLedger]:
    found = SQLiteLedger(tmp_path / "ledger.db", terms=terms(), now=clock)
    await found.open()
    yield found
    await found.close()


async def reserve(ledger: SQLiteLedger, name: str, tokens: int, minimum: int | None = None) -> Any:
    least = tokens if minimum is None else minimum
    return await ledger.reserve(name, bound=Amount(tokens), minimum=Amount(least))


def spent(ledger: SQLiteLedger, name: str = "daily") -> tuple[int, int]:
    (window,) = (window for window in ledger.view() if window.name == name)
    return window.spent.tokens, window.reserved.tokens


async def test_what_is_in_flight_makes_it_busy_and_what_is_spent_exhausts_it(ledger: SQLiteLedger) -> None:
    assert await reserve(ledger, "a", 600) == Granted(amount=Amount(600))
    assert isinstance(await reserve(ledger, "b", 600), Busy)
    await ledger.settle("a", spend(500))
    assert spent(ledger) == (500, 0)
    answer = await reserve(ledger, "b", 600)
    assert answer == Exhausted(window="daily", resets_in=12 * 3600)


async def test_near_the_limit_a_request_gets_what_is_left(ledger: SQLiteLedger) -> None:
    await reserve(ledger, "a", 900)
    await ledger.settle("a", spend(900))
    assert await reserve(ledger, "b", 300, minimum=50) == Granted(amount=Amount(100))


async def test_repeating_a_step_changes_nothing(ledger: SQLiteLedger) -> None:
    for _ in range(10):
        assert await reserve(ledger, "a", 400) == Granted(amount=Amount(400))
    assert spent(ledger) == (0, 400)
    for _ in range(10):
        await ledger.settle("a", spend(100))
    assert spent(ledger) == (100, 0)


async def test_a_bill_beyond_the_bound_counts_fully_and_refuses_the_next(ledger: SQLiteLedger) -> None:
    await reserve(ledger, "a", 100)
    await ledger.settle("a", spend(3000))
    assert spent(ledger) == (3000, 0)
    assert isinstance(await reserve(ledger, "b", 1), Exhausted)


async def test_what_nobody_reserved_is_counted_all_the_same(ledger: SQLiteLedger) -> None:
    await ledger.settle("unknown", spend(70))
    await ledger.settle("unknown", spend(70))
    assert spent(ledger) == (70, 0)


async def test_a_dead_reservation_is_presumed_spent_and_a_late_bill_takes_its_place(
    ledger: SQLiteLedger, clock: Clock
) -> None:
    await reserve(ledger, "dead", 800)
    clock.now += timedelta(seconds=31)
    assert isinstance(await reserve(ledger, "b", 300), Exhausted)
    assert spent(ledger) == (800, 0)
    await ledger.settle("dead", spend(50))
    assert spent(ledger) == (50, 0)


async def test_a_reservation_that_is_renewed_lives_also_after_it_was_thought_dead(
    ledger: SQLiteLedger, clock: Clock
) -> None:
    await reserve(ledger, "slow", 800)
    clock.now += timedelta(seconds=20)
    await ledger.renew("slow")
    clock.now += timedelta(seconds=20)
    await reserve(ledger, "b", 1)
    assert spent(ledger) == (0, 801)
    clock.now += timedelta(seconds=31)
    await reserve(ledger, "c", 1)
    assert spent(ledger) == (801, 1)
    await ledger.renew("slow")
    assert spent(ledger) == (1, 801)


async def test_a_settlement_goes_into_the_window_of_its_reservation(ledger: SQLiteLedger, clock: Clock) -> None:
    await reserve(ledger, "late", 900)
    clock.now += timedelta(hours=12)
    assert await reserve(ledger, "next", 900) == Granted(amount=Amount(900))
    await ledger.settle("late", spend(900))
    assert spent(ledger) == (0, 900)
    assert spent(ledger, "monthly") == (900, 900)


async def test_a_clock_that_lags_opens_no_window_anew(ledger: SQLiteLedger, clock: Clock) -> None:
    clock.now += timedelta(days=1)
    await reserve(ledger, "a", 1000)
    await ledger.settle("a", spend(1000))
    clock.now -= timedelta(days=1)
    assert isinstance(await reserve(ledger, "b", 1), Exhausted)


async def test_another_zone_lets_the_running_window_end_first(ledger: SQLiteLedger, clock: Clock) -> None:
    await reserve(ledger, "a", 1000)
    await ledger.settle("a", spend(1000))
    ledger.change(terms(time_zone="Pacific/Auckland"))
    assert isinstance(await reserve(ledger, "b", 1), Exhausted)
    clock.now = datetime(2026, 11, 26, 0, 0, tzinfo=UTC)
    assert isinstance(await reserve(ledger, "c", 1), Granted)
    daily = next(window for window in ledger.view() if window.name == "daily")
    assert (daily.start, daily.end) == (clock.now, datetime(2026, 11, 26, 11, tzinfo=UTC))


async def test_a_grant_fits_every_window(ledger: SQLiteLedger) -> None:
    ledger.change(terms(1000, monthly=1200))
    await reserve(ledger, "a", 1000)
    await ledger.settle("a", spend(950))
    ledger.change(terms(5000, monthly=1200))
    assert await reserve(ledger, "b", 500, minimum=10) == Granted(amount=Amount(250))


async def test_limits_that_do_not_refuse_count(ledger: SQLiteLedger) -> None:
    ledger.change(terms(10, enforcement=Enforcement.SOFT))
    assert await reserve(ledger, "a", 5000) == Granted(amount=Amount(5000))
    await ledger.settle("a", spend(5000))
    ledger.change(terms(10))
    assert isinstance(await reserve(ledger, "b", 1), Exhausted)


async def test_each_model_has_its_own_sum(ledger: SQLiteLedger) -> None:
    await ledger.settle("a", spend(10, "x"))
    await ledger.settle("b", spend(20, "y"))
    await ledger.settle("c", spend(5, "x"))
    found = {window.name: {s.name: s.tokens for s in spends} for window, spends in await ledger.models()}
    assert found == {"daily": {"x": 15, "y": 20}, "monthly": {"x": 15, "y": 20}}


async def test_what_is_owed_is_paid_when_the_file_is_back(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "ledger.db"
    ledger = SQLiteLedger(path, terms=terms(), now=clock)
    await ledger.open()
    await reserve(ledger, "a", 500)
    assert ledger._connection is not None  # pyright: ignore[reportPrivateUsage]
    ledger._connection.close()  # pyright: ignore[reportPrivateUsage]
    await ledger.settle("a", spend(400))
    with pytest.raises(LedgerUnavailable):
        await reserve(ledger, "b", 1)
    ledger._connection = None  # pyright: ignore[reportPrivateUsage]
    assert isinstance(await reserve(ledger, "b", 1), Granted)
    assert spent(ledger) == (400, 1)
    await ledger.close()


async def test_two_ledgers_on_one_file_never_grant_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    both = [SQLiteLedger(path, terms=terms(10_000)) for _ in range(2)]
    billed = 0

    async def client(ledger: SQLiteLedger, name: str) -> None:
        nonlocal billed
        for turn in range(10_000):
            request = f"{name}-{turn}"
            while isinstance(answer := await reserve(ledger, request, 100), Busy):
                await ledger.changed(answer.retry_after)
            if isinstance(answer, Exhausted):
                return
            billed += 70
            await ledger.settle(request, spend(70))

    for ledger in both:
        await ledger.open()
    await asyncio.gather(*(client(ledger, f"{i}-{n}") for i, ledger in enumerate(both) for n in range(8)))
    assert 9_900 < billed <= 10_000
    assert spent(both[0])[0] == billed or spent(both[1])[0] == billed
    for ledger in both:
        await ledger.close()
