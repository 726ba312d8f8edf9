"""The Kubernetes ledger on the real API server: what one process does with its slices, and what befalls them."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.services.tcp_proxy import Fault

from agentservice_api.budget import Amount, Enforcement, LedgerSpec, LedgerStatus, ModelSpend, Window, WindowName
from agentservice_api.budget.books import calendar, presume_all
from agentservice_api.budget.ledger import instant
from agentservice_runtime.ledger.interface import Busy, Exhausted, Granted, LedgerUnavailable
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from devcluster.standalone import StandaloneControlPlane

from .ledgers import LedgerObject, eventually, limited

LIMIT = Amount(10_000, 10_000_000)
BOUND = Amount(400, 400_000)
MINIMUM = Amount(40, 40_000)


@pytest.fixture
def ledger(control_plane: StandaloneControlPlane, namespace: str) -> Iterator[LedgerObject]:
    ledger = LedgerObject(control_plane, namespace, "support")
    ledger.create(limited(LIMIT))
    yield ledger


def cost(amount: Amount) -> ModelSpend:
    return ModelSpend(name="m", price="spec/1", tokens=amount.tokens, nano_usd=amount.nano_usd)


async def reserve(ledger: KubernetesLedger, request_id: str, bound: Amount = BOUND) -> Granted | Busy | Exhausted:
    return await ledger.reserve(request_id, bound=bound, minimum=MINIMUM.at_most(bound))


async def spend(ledger: KubernetesLedger, request_id: str, amount: Amount) -> None:
    """Make a request that costs so much."""
    assert isinstance(await reserve(ledger, request_id), Granted)
    await ledger.settle(request_id, cost(amount))


async def granted_in_time(ledger: KubernetesLedger, request_id: str, *, seconds: float = 30) -> Granted:
    """As a caller does that waits while BUSY."""
    async with asyncio.timeout(seconds):
        while True:
            answer = await reserve(ledger, request_id)
            if isinstance(answer, Granted):
                return answer
            assert isinstance(answer, Busy)
            await ledger.changed(answer.retry_after)


async def test_a_slice_serves_many_requests_with_one_write(ledger: LedgerObject) -> None:
    small = Amount(5, 5_000)
    async with ledger.kubernetes("pod") as process:
        assert isinstance(await reserve(process, "first", small), Granted)
        written = ledger.read().metadata.resource_version
        for number in range(10):
            assert isinstance(await reserve(process, f"r{number}", small), Granted)
            await process.settle(f"r{number}", cost(small))
        assert ledger.read().metadata.resource_version == written
        await process.settle("first", cost(small))
    day = ledger.day()
    assert day.settled == day.authorized == Amount(55, 55_000)
    assert day.models == (cost(Amount(55, 55_000)),)


async def test_what_is_idle_goes_back_by_itself_and_at_rest_nothing_is_written(ledger: LedgerObject) -> None:
    async with ledger.kubernetes("pod") as process:
        await spend(process, "r", Amount(100, 100_000))
        await eventually(lambda: ledger.day().settled == ledger.day().authorized == Amount(100, 100_000), seconds=40)
        written = ledger.read().metadata.resource_version
        await asyncio.sleep(2)
        assert ledger.read().metadata.resource_version == written


async def test_an_id_names_one_request_for_ever(ledger: LedgerObject) -> None:
    async with ledger.kubernetes("pod") as process:
        for _ in range(2):
            assert await reserve(process, "r") == Granted(amount=BOUND)
        for _ in range(2):
            await process.settle("r", cost(Amount(100, 100_000)))
        assert await reserve(process, "r") == Granted(amount=BOUND)
        await process.settle("r", cost(Amount(100, 100_000)))
        await process.settle("never reserved", cost(Amount(7, 7)))
    assert ledger.day().settled == ledger.day().authorized == Amount(107, 100_007)


async def test_what_one_process_holds_idle_another_gets_when_it_waits(ledger: LedgerObject) -> None:
    ledger.limit(limited(Amount(700, 700_000)))
    async with ledger.kubernetes("pod-a") as a, ledger.kubernetes("pod-b") as b:
        assert isinstance(await reserve(a, "a"), Granted)
        assert isinstance(await reserve(b, "b"), Busy)
        await a.settle("a", cost(Amount(100, 100_000)))
        assert await granted_in_time(b, "b") == Granted(amount=BOUND)
        await b.settle("b", cost(BOUND))
        # 200 are left: less than was asked for, and nobody else has any
        assert await granted_in_time(a, "a2") == Granted(amount=Amount(200, 200_000))
        await a.settle("a2", cost(Amount(200, 200_000)))
        assert isinstance(await reserve(a, "a3"), Exhausted)
        async with asyncio.timeout(3):
            while not isinstance(answer := await reserve(b, "b2"), Exhausted):
                await b.changed(0.5)
        assert answer.window == "daily"
        assert 0 < answer.resets_in <= 86_400
    assert ledger.day().settled == ledger.day().authorized == Amount(700, 700_000)


async def test_many_clients_of_several_processes_spend_the_limit_and_nothing_more(ledger: LedgerObject) -> None:
    billed = Amount()

    async def client(process: KubernetesLedger, name: str) -> None:
        nonlocal billed
        for number in range(1000):
            request_id = f"{name}-{number}"
            while isinstance(answer := await reserve(process, request_id), Busy):
                await process.changed(answer.retry_after)
            if isinstance(answer, Exhausted):
                return
            part = Amount(answer.amount.tokens * (number % 3 + 1) // 4, answer.amount.nano_usd // 2)
            billed += part
            await asyncio.sleep(0.02)
            await process.settle(request_id, cost(part))

    async with (
        ledger.kubernetes("pod-a") as a,
        ledger.kubernetes("pod-b") as b,
        ledger.kubernetes("pod-c") as c,
        asyncio.timeout(60),
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(8):
            for name, process in (("a", a), ("b", b), ("c", c)):
                tasks.create_task(client(process, f"{name}{number}"))
    assert billed.fits(LIMIT)
    assert 100 * billed.nano_usd / LIMIT.nano_usd > 98
    assert ledger.day().settled == ledger.day().authorized == billed


async def test_a_limit_that_is_raised_serves_again_within_two_seconds(ledger: LedgerObject) -> None:
    ledger.limit(limited(BOUND))
    async with ledger.kubernetes("pod") as process:
        await spend(process, "r", BOUND)
        assert isinstance(await reserve(process, "more"), Exhausted)
        ledger.limit(limited(LIMIT))
        async with asyncio.timeout(2):
            while isinstance(await reserve(process, "more"), Exhausted):
                await process.changed(0.05)


async def test_a_limit_that_falls_below_what_is_spent_refuses_within_two_seconds_and_slices_go_back(
    ledger: LedgerObject,
) -> None:
    small = Amount(10, 10_000)
    async with ledger.kubernetes("pod") as process:
        await spend(process, "r", BOUND)
        assert isinstance(await reserve(process, "held", small), Granted)
        ledger.limit(limited(Amount(50, 50_000)))
        async with asyncio.timeout(2):
            number = 0
            while not isinstance(await reserve(process, f"r{number}", small), Exhausted):
                number += 1
                await asyncio.sleep(0.02)
        reserved = Amount(10, 10_000)
        await eventually(lambda: ledger.day().authorized.fits(BOUND + reserved + Amount(10 * number, 10_000 * number)))


async def test_while_the_api_server_is_away_the_slice_in_hand_serves_and_nothing_else(ledger: LedgerObject) -> None:
    small = Amount(10, 10_000)
    async with ledger.proxy() as proxy, ledger.kubernetes("pod", proxy=proxy) as process:
        assert isinstance(await reserve(process, "first", small), Granted)
        authorized = ledger.day().authorized
        proxy.set(Fault.CUT)
        served = 1
        with pytest.raises(LedgerUnavailable):
            for number in range(1000):
                assert isinstance(await reserve(process, f"r{number}", small), Granted)
                served += 1
        assert authorized.tokens - small.tokens < served * small.tokens <= authorized.tokens
        for number in range(served - 1):
            await process.settle(f"r{number}", cost(small))
        await process.settle("first", cost(small))
        proxy.set(Fault.NONE)
        await eventually(lambda: ledger.day().settled.tokens == served * small.tokens, seconds=40)
        assert isinstance(await granted_in_time(process, "again"), Granted)


async def test_settlements_whose_answers_are_lost_are_counted_once(ledger: LedgerObject) -> None:
    async with ledger.proxy() as proxy, ledger.kubernetes("pod", proxy=proxy) as process:
        for number in range(6):
            before = proxy.lost
            proxy.set(Fault.LOSE_ANSWERS)
            # more than a slice, so that it is taken, and what was spent before is reported with it
            asking = asyncio.create_task(granted_in_time(process, f"r{number}"))
            await eventually(lambda before=before: proxy.lost > before)
            await asyncio.sleep(0.3)
            proxy.set(Fault.NONE)
            await asking
            await process.settle(f"r{number}", cost(Amount(350, 350_000)))
    assert ledger.day().settled == ledger.day().authorized == Amount(2100, 2_100_000)


async def test_a_slice_ends_when_the_ledger_was_deleted_and_its_successor_does_not_know_it(
    ledger: LedgerObject,
) -> None:
    small = Amount(10, 10_000)
    async with ledger.kubernetes("pod") as process:
        assert isinstance(await reserve(process, "first", small), Granted)
        lost = ledger.read().status
        ledger.delete()
        with pytest.raises(LedgerUnavailable):
            for number in range(1000):
                await reserve(process, f"r{number}", small)
                await asyncio.sleep(0.01)
        spec = limited(LIMIT)
        unknown = lost.model_copy(
            update={
                "holders": (),
                "windows": tuple(
                    w.model_copy(update={"authorized_tokens": 0, "authorized_nano_usd": 0}) for w in lost.windows
                ),
            }
        )
        ledger.create(spec, presume_all(unknown, spec))

        async with asyncio.timeout(3):
            while True:
                try:
                    assert isinstance(await reserve(process, "after", small), Exhausted)
                    break
                except LedgerUnavailable:
                    await process.changed(0.05)
        await process.settle("first", cost(small))
    day = ledger.day()
    assert day.presumed == LIMIT
    assert day.overrun == small  # counted twice rather than not at all


async def test_a_ledger_that_is_restored_as_it_was_goes_on_as_if_nothing_had_been(ledger: LedgerObject) -> None:
    async with ledger.kubernetes("pod") as process:
        await spend(process, "r", BOUND)
        assert isinstance(await reserve(process, "held"), Granted)
        lost = ledger.read().status
        ledger.delete()
        ledger.create(limited(LIMIT), lost)
        await asyncio.sleep(0.3)
        await process.settle("held", cost(BOUND))
        await spend(process, "after", BOUND)
    assert ledger.day().settled == ledger.day().authorized == Amount(1200, 1_200_000)
    assert not ledger.day().presumed


async def test_what_the_process_before_this_one_held_counts_as_spent(ledger: LedgerObject) -> None:
    killed = ledger.unopened("pod", word="before")
    await killed.open()
    assert isinstance(await reserve(killed, "r"), Granted)
    held = ledger.day().authorized
    async with ledger.kubernetes("pod") as process, ledger.kubernetes("pod-2") as other:
        assert isinstance(await reserve(other, "r"), Granted)
        await spend(process, "r", BOUND)
        assert ledger.day().presumed == held
        # it was not dead: it is struck off the list and grants nothing, but its settlement counts
        await killed.settle("r", cost(BOUND))
        await killed.close()
        await other.settle("r", cost(BOUND))
    assert ledger.day().settled == Amount(1200, 1_200_000)
    assert ledger.day().presumed == held


@pytest.mark.parametrize("enforcement", [Enforcement.SOFT, Enforcement.OBSERVE])
async def test_what_does_not_refuse_serves_and_counts_beyond_the_limit(
    ledger: LedgerObject, enforcement: Enforcement
) -> None:
    ledger.limit(limited(BOUND).model_copy(update={"enforcement": enforcement}))
    async with ledger.kubernetes("pod") as process:
        for number in range(4):
            await spend(process, f"r{number}", Amount(300, 300_000))
        assert [view.spent for view in process.view() if view.name == "daily"] == [Amount(1200, 1_200_000)]
        assert max(view.used_percent for view in process.view()) == 300
    assert ledger.day().settled == Amount(1200, 1_200_000)


async def test_a_switch_from_soft_to_hard_refuses_what_is_over_the_limit(ledger: LedgerObject) -> None:
    soft = limited(BOUND).model_copy(update={"enforcement": Enforcement.SOFT})
    ledger.limit(soft)
    async with ledger.kubernetes("pod") as process:
        for number in range(3):
            await spend(process, f"r{number}", BOUND)
        assert isinstance(await reserve(process, "in flight"), Granted)
        ledger.limit(limited(BOUND))
        async with asyncio.timeout(30):
            number = 3
            while not isinstance(await reserve(process, f"r{number}"), Exhausted):
                await process.settle(f"r{number}", cost(Amount()))
                number += 1
                await asyncio.sleep(0.05)
        await process.settle("in flight", cost(BOUND))
    day = ledger.day()
    assert day.settled + day.overrun == Amount(1600, 1_600_000)


def short_days(seconds: int):
    def short(spec: LedgerSpec, name: WindowName, previous: Window | None, moment) -> Window:
        if name is not WindowName.DAILY:
            return calendar(spec, name, previous, moment)
        began = moment - timedelta(seconds=moment.timestamp() % seconds)
        began = began.replace(microsecond=0)
        return Window(name.value, began, began + timedelta(seconds=seconds))

    return short


async def test_a_request_is_counted_in_the_window_in_which_it_was_reserved(ledger: LedgerObject) -> None:
    async with ledger.kubernetes("pod", calendar=short_days(3)) as process:
        assert isinstance(await reserve(process, "first"), Granted)
        first = ledger.day()
        left = (instant(first.end) - process.view()[0].start).total_seconds()
        assert 0 < left <= 3
        await asyncio.sleep(left + 1.1)
        assert isinstance(await granted_in_time(process, "second"), Granted)
        second = ledger.day()
        assert instant(second.start) >= instant(first.end)
        await process.settle("first", cost(Amount(111, 111_000)))
        await process.settle("second", cost(Amount(222, 222_000)))
    status = ledger.read().status
    assert status.window(first.key).settled == Amount(111, 111_000)
    assert status.window(second.key).settled == Amount(222, 222_000)


async def test_a_ledger_that_is_not_seeded_grants_nothing(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    ledger = LedgerObject(control_plane, namespace, "unseeded")
    ledger.create(limited(LIMIT), LedgerStatus(seeded=False))
    process = ledger.unopened("pod")
    with pytest.raises(LedgerUnavailable, match="seeded"):
        await process.open()
    ledger.patch({"status": {"seeded": True}}, "/status")
    await process.open()
    assert isinstance(await reserve(process, "r"), Granted)
    await process.close()
