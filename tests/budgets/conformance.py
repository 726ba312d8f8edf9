"""What every ledger does, whatever keeps it: one set of behaviours, which each test module runs against its own ledgers."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import pytest

from agentservice_api.budget import (
    ZERO,
    Amount,
    Enforcement,
    LedgerSpec,
    ModelSpend,
    Window,
    WindowLimit,
    WindowName,
)
from agentservice_api.budget.books import Calendar, calendar
from agentservice_runtime.ledger.interface import Answer, Busy, Exhausted, Granted, Ledger

NANO = 5
"""Nano-USD per token in these tests, so that both units are counted and each can be told from the other."""


def amount(tokens: int) -> Amount:
    return Amount(tokens, NANO * tokens)


def spend(tokens: int, *, model: str = "m", nano_usd: int | None = None) -> ModelSpend:
    return ModelSpend(name=model, price="p/1", tokens=tokens, nano_usd=NANO * tokens if nano_usd is None else nano_usd)


def limits(
    daily: Amount | None = None, monthly: Amount | None = None, *, enforcement: Enforcement = Enforcement.HARD
) -> LedgerSpec:
    return LedgerSpec(
        enforcement=enforcement,
        windows=tuple(
            WindowLimit(name=name, tokens=limit.tokens, nano_usd=limit.nano_usd)
            for name, limit in (("daily", daily), ("monthly", monthly))
            if limit is not None
        ),
    )


def days_of(seconds: int) -> Calendar:
    """Return a calendar whose days have so many seconds; months are months."""

    def short(spec: LedgerSpec, name: WindowName, previous: Window | None, moment: datetime) -> Window:
        if name is not WindowName.DAILY:
            return calendar(spec, name, previous, moment)
        start = datetime.fromtimestamp(moment.timestamp() // seconds * seconds, moment.tzinfo)
        end = start + timedelta(seconds=seconds)
        return Window(name.value, max(start, previous.end) if previous is not None else start, end)

    return short


@dataclass(frozen=True)
class Total:
    """What the accounts say of one window."""

    spent: Amount
    reserved: Amount


class House(Protocol):
    """One account and the processes that share it."""

    forgets_slowly: bool
    """Whether what is settled is seen in the accounts only some seconds later."""

    async def join(self, spec: LedgerSpec, **options: Any) -> Ledger:
        """Open the account for another process. The first call's terms are in force; options are the ledger's own."""
        ...

    async def put_in_force(self, spec: LedgerSpec) -> None:
        """Let other terms hold for everybody."""
        ...

    async def totals(self) -> Mapping[str, Total]:
        """Return the accounts of the current windows, with all that was settled."""
        ...

    async def models(self) -> Mapping[str, Mapping[str, Amount]]:
        """Return what each model cost, by window."""
        ...


async def eventually(found: Callable[[], Awaitable[Any]], wanted: object, *, seconds: float = 15) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while (now := await found()) != wanted:
        assert asyncio.get_running_loop().time() < deadline, f"{now} and not {wanted}"
        await asyncio.sleep(0.05)


async def ask(ledger: Ledger, request_id: str, bound: int, minimum: int | None = None) -> Answer:
    return await ledger.reserve(request_id, bound=amount(bound), minimum=amount(bound if minimum is None else minimum))


async def wait_for(ledger: Ledger, request_id: str, bound: int, minimum: int, *, seconds: float = 10) -> Answer:
    """Ask until the answer is not Busy."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = await ask(ledger, request_id, bound, minimum)
        left = deadline - asyncio.get_running_loop().time()
        if not isinstance(answer, Busy) or left <= 0:
            return answer
        await ledger.changed(min(answer.retry_after, left))


class Conformance:
    """Subclass it beside a fixture `house`."""

    async def test_many_processes_are_granted_the_limit_and_nothing_more(self, house: House) -> None:
        limit = 3000
        ledgers = [await house.join(limits(amount(limit))) for _ in range(4)]
        billed, in_flight, worst = 0, 0, 0
        numbers, chance = itertools.count(), random.Random(7)

        async def client(ledger: Ledger) -> None:
            nonlocal billed, in_flight, worst
            while True:
                name = f"r{next(numbers)}"
                answer = await wait_for(ledger, name, 50, 10)
                if not isinstance(answer, Granted):
                    assert isinstance(answer, Exhausted)
                    return
                assert 10 <= answer.amount.tokens <= 50
                in_flight += answer.amount.tokens
                worst = max(worst, billed + in_flight)
                await asyncio.sleep(chance.uniform(0, 0.01))
                cost = chance.randint(5, answer.amount.tokens)
                billed, in_flight = billed + cost, in_flight - answer.amount.tokens
                await ledger.settle(name, spend(cost))

        async with asyncio.TaskGroup() as tasks:
            for ledger in ledgers:
                for _ in range(8):
                    tasks.create_task(client(ledger))
        assert worst <= limit
        assert billed > limit - 10

        async def total() -> Total:
            return (await house.totals())["daily"]

        await eventually(total, Total(amount(billed), ZERO))

    async def test_what_is_in_flight_makes_it_busy_and_what_is_spent_exhausts_it(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        assert await ask(ledger, "a", 600) == Granted(amount=amount(600))
        assert isinstance(await ask(ledger, "b", 600), Busy)
        await ledger.settle("a", spend(500))
        answer = await wait_for(ledger, "b", 600, 600)
        assert isinstance(answer, Exhausted)
        assert answer.window == "daily"
        assert 0 < answer.resets_in <= 25 * 3600

    async def test_near_the_limit_a_request_gets_what_is_left_and_at_least_its_minimum(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        await ask(ledger, "a", 900)
        await ledger.settle("a", spend(900))
        assert isinstance(await wait_for(ledger, "b", 300, 101), Exhausted)
        answer = await wait_for(ledger, "c", 300, 50)
        assert answer == Granted(amount=amount(100)), f"{answer}"
        assert isinstance(await ask(ledger, "d", 50), Busy)

    async def test_a_step_that_is_repeated_changes_nothing_further(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        for _ in range(10):
            assert await ask(ledger, "a", 300) == Granted(amount=amount(300))
        assert await ask(ledger, "b", 700) == Granted(amount=amount(700))
        for _ in range(10):
            await ledger.settle("a", spend(100))
        # 700 are in flight, 100 are spent, so exactly 200 are left
        assert isinstance(await ask(ledger, "c", 201), Busy)
        assert await wait_for(ledger, "d", 200, 200) == Granted(amount=amount(200))

    async def test_an_id_that_was_given_back_before_its_reservation_came_holds_nothing(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        await ledger.settle("a", spend(0))
        await ask(ledger, "a", 600)
        assert await ask(ledger, "b", 1000) == Granted(amount=amount(1000))

    async def test_what_is_billed_beyond_its_reservation_counts_in_full_and_the_next_is_refused(
        self, house: House
    ) -> None:
        ledger = await house.join(limits(amount(1000)))
        await ask(ledger, "a", 100)
        await ledger.settle("a", spend(3000))
        assert isinstance(await wait_for(ledger, "b", 10, 1), Exhausted)

        async def spent() -> Amount:
            return (await house.totals())["daily"].spent

        await eventually(spent, amount(3000))

    async def test_what_nobody_reserved_counts_as_spend(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        await ledger.settle("never reserved", spend(950))
        assert isinstance(await wait_for(ledger, "b", 60, 60), Exhausted)
        assert await wait_for(ledger, "c", 50, 50) == Granted(amount=amount(50))

    @pytest.mark.parametrize("enforcement", [Enforcement.SOFT, Enforcement.OBSERVE])
    async def test_where_limits_do_not_refuse_all_is_granted_and_counted(
        self, house: House, enforcement: Enforcement
    ) -> None:
        ledger = await house.join(limits(amount(100), enforcement=enforcement))
        for name in ("a", "b", "c"):
            assert await ask(ledger, name, 80) == Granted(amount=amount(80))
            await ledger.settle(name, spend(70))

        async def spent() -> Amount:
            return (await house.totals())["daily"].spent

        await eventually(spent, amount(210))

    async def test_a_limit_that_is_raised_serves_again_and_one_that_is_lowered_refuses(self, house: House) -> None:
        ledger = await house.join(limits(amount(100)))
        await ask(ledger, "a", 100)
        await ledger.settle("a", spend(100))
        assert isinstance(await wait_for(ledger, "b", 50, 50), Exhausted)
        await house.put_in_force(limits(amount(200)))
        assert await wait_for(ledger, "b", 50, 50) == Granted(amount=amount(50))
        await ledger.settle("b", spend(50))
        await house.put_in_force(limits(amount(120)))
        assert isinstance(await wait_for(ledger, "c", 10, 1), Exhausted)

    async def test_a_limit_that_is_set_later_knows_what_was_spent_before(self, house: House) -> None:
        ledger = await house.join(limits(monthly=amount(10_000)))
        await ask(ledger, "a", 300)
        await ledger.settle("a", spend(300))
        await house.put_in_force(limits(amount(350), amount(10_000)))
        assert isinstance(await wait_for(ledger, "b", 60, 60), Exhausted)
        assert await wait_for(ledger, "c", 50, 50) == Granted(amount=amount(50))

    async def test_a_reservation_is_made_in_both_windows_and_both_units_or_not_at_all(self, house: House) -> None:
        # the month has less money, the day fewer tokens
        ledger = await house.join(limits(Amount(100, 100_000), Amount(10_000, 600)))
        assert isinstance(await ledger.reserve("a", bound=Amount(101, 1), minimum=Amount(101, 1)), Exhausted)
        refused = await ledger.reserve("b", bound=Amount(1, 601), minimum=Amount(1, 601))
        assert isinstance(refused, Exhausted)
        assert refused.window == "monthly"
        # nothing of those two is held
        whole = Amount(100, 600)
        assert await ledger.reserve("c", bound=whole, minimum=whole) == Granted(amount=whole)
        assert isinstance(await ledger.reserve("d", bound=Amount(1, 0), minimum=Amount(1, 0)), Busy)
        assert isinstance(await ledger.reserve("e", bound=Amount(0, 1), minimum=Amount(0, 1)), Busy)

    async def test_a_request_is_squeezed_into_the_narrower_of_both_windows(self, house: House) -> None:
        ledger = await house.join(limits(Amount(100, 100_000), Amount(10_000, 300)))
        answer = await wait_for_amount(ledger, "a", Amount(500, 500), Amount(1, 1))
        assert answer == Granted(amount=Amount(100, 300))

    async def test_a_grant_is_settled_in_the_window_that_it_was_made_in(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000), amount(100_000)), calendar=days_of(4))
        await begin_of_a_day(4)
        answer = await wait_for(ledger, "a", 900, 900)
        assert answer == Granted(amount=amount(900)), f"{answer}"
        await begin_of_a_day(4)
        # another day has begun, and the old one's reservation is not in its way
        assert await wait_for(ledger, "b", 1000, 1000, seconds=3) == Granted(amount=amount(1000))
        await ledger.settle("a", spend(800))
        await ledger.settle("b", spend(10))

        async def spent() -> tuple[bool, Amount]:
            totals = await house.totals()
            return totals["daily"].spent.tokens <= 10, totals["monthly"].spent

        await eventually(spent, (True, amount(810)))

    async def test_spend_is_kept_by_model_and_price(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000)))
        for name, cost in (("a", spend(10, model="x")), ("b", spend(20, model="y")), ("c", spend(5, model="x"))):
            await ask(ledger, name, 50)
            await ledger.settle(name, cost)
        found = {"x": amount(15), "y": amount(20)}
        await eventually(house.models, {"daily": found, "monthly": found})

    async def test_the_view_shows_what_is_spent_and_what_is_in_flight(self, house: House) -> None:
        ledger = await house.join(limits(amount(1000), amount(9000)))
        await ask(ledger, "a", 300)
        await ask(ledger, "b", 200)
        await ledger.settle("a", spend(100))
        views = {view.name: view for view in ledger.view()}
        assert (views["daily"].spent, views["daily"].reserved) == (amount(100), amount(200))
        assert (views["monthly"].spent, views["monthly"].limit) == (amount(100), amount(9000))
        assert views["daily"].used_percent == 10


class ConformanceOfLeases(Conformance):
    """Of ledgers in which a reservation lives as long as it is renewed. Join with the option ``lease_seconds``."""

    async def test_what_died_in_flight_counts_as_spent(self, house: House) -> None:
        mortal = await house.join(limits(amount(1000)), lease_seconds=0.2)
        other = await house.join(limits(amount(1000)))
        await ask(mortal, "a", 600)
        assert isinstance(await ask(other, "b", 600), Busy)
        await asyncio.sleep(0.25)
        assert isinstance(await ask(other, "b", 600), Exhausted)
        assert (await house.totals())["daily"] == Total(amount(600), ZERO)

    async def test_a_late_settlement_takes_the_place_of_what_was_presumed(self, house: House) -> None:
        mortal = await house.join(limits(amount(1000)), lease_seconds=0.2)
        other = await house.join(limits(amount(1000)))
        await ask(mortal, "a", 600)
        await asyncio.sleep(0.25)
        assert isinstance(await ask(other, "b", 600), Exhausted)
        for _ in range(10):
            await mortal.settle("a", spend(100))
        assert (await house.totals())["daily"] == Total(amount(100), ZERO)
        assert await ask(other, "b", 600) == Granted(amount=amount(600))

    async def test_a_reservation_that_is_renewed_does_not_die(self, house: House) -> None:
        mortal = await house.join(limits(amount(1000)), lease_seconds=1.0)
        other = await house.join(limits(amount(1000)))
        await ask(mortal, "a", 600)
        for _ in range(6):
            await asyncio.sleep(0.25)
            await mortal.renew("a")
            assert isinstance(await ask(other, "b", 600), Busy)

    async def test_who_renews_after_it_was_presumed_dead_is_alive_again(self, house: House) -> None:
        mortal = await house.join(limits(amount(1000)), lease_seconds=0.2)
        other = await house.join(limits(amount(1000)), lease_seconds=60)
        await ask(mortal, "a", 600)
        await asyncio.sleep(0.25)
        assert isinstance(await ask(other, "b", 600), Exhausted)
        await mortal.renew("a")
        assert (await house.totals())["daily"] == Total(ZERO, amount(600))

    async def test_more_dead_than_are_buried_at_once_all_count(self, house: House) -> None:
        mortal = await house.join(limits(amount(1000)), lease_seconds=0.1)
        other = await house.join(limits(amount(1000)))
        for number in range(150):
            await ask(mortal, f"a{number}", 5)
        await asyncio.sleep(0.15)
        assert await wait_for(other, "b", 250, 250) == Granted(amount=amount(250))

        async def total() -> Total:
            await ask(other, "never fits", 10_000)
            return (await house.totals())["daily"]

        await eventually(total, Total(amount(750), amount(250)))


async def wait_for_amount(ledger: Ledger, request_id: str, bound: Amount, minimum: Amount) -> Answer:
    while isinstance(answer := await ledger.reserve(request_id, bound=bound, minimum=minimum), Busy):
        await ledger.changed(answer.retry_after)
    return answer


async def begin_of_a_day(seconds: int) -> None:
    """Return a little after another day of so many seconds has begun, by this machine's clock."""
    now = datetime.now().timestamp()
    await asyncio.sleep(seconds - now % seconds + 0.3)
