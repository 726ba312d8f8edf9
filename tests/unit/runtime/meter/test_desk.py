"""Waiting, renewing and settling."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.unit.runtime.meter.memory_ledger import MemoryLedger

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend, WindowLimit
from agentservice_runtime.ledger.interface import Busy, Exhausted, Granted, LedgerUnavailable
from agentservice_runtime.meter import desk as desk_module
from agentservice_runtime.meter.desk import Desk

FULL, LEAST = Amount(100), Amount(50)


def ledger_of(tokens: int) -> MemoryLedger:
    return MemoryLedger(spec=LedgerSpec(windows=(WindowLimit(name="daily", tokens=tokens),)))


async def opened(ledger: MemoryLedger, *, patience_seconds: float = 10) -> Desk:
    desk = Desk(ledger, patience_seconds=patience_seconds)
    await desk.open()
    return desk


def spend(tokens: int) -> ModelSpend:
    return ModelSpend(name="m", tokens=tokens)


async def test_who_waits_is_served_in_the_order_of_coming() -> None:
    desk = await opened(ledger_of(100))
    served: list[str] = []

    async def client(name: str) -> None:
        assert isinstance(await desk.reserve(name, bound=FULL, minimum=LEAST), Granted)
        served.append(name)
        await asyncio.sleep(0.01)
        desk.settle(name, spend(0))

    await asyncio.gather(*(client(str(n)) for n in range(12)))
    assert served == [str(n) for n in range(12)]
    await desk.close()


async def test_a_request_waits_for_so_long_and_not_longer() -> None:
    desk = await opened(ledger_of(100), patience_seconds=0.2)
    assert isinstance(await desk.reserve("first", bound=FULL, minimum=LEAST), Granted)
    answers = await asyncio.gather(*(desk.reserve(f"{n}", bound=FULL, minimum=LEAST) for n in range(5)))
    assert all(isinstance(answer, Busy) for answer in answers)
    desk.settle("first", spend(100))
    assert isinstance(await desk.reserve("late", bound=FULL, minimum=LEAST), Exhausted)
    await desk.close()


async def test_a_request_that_is_cancelled_while_it_waits_holds_nothing_and_stands_in_nobodys_way() -> None:
    ledger = ledger_of(100)
    desk = await opened(ledger)
    await desk.reserve("first", bound=FULL, minimum=LEAST)
    waiting = [asyncio.create_task(desk.reserve(f"{n}", bound=FULL, minimum=LEAST)) for n in range(3)]
    await asyncio.sleep(0.05)
    for task in waiting[:2]:
        task.cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    desk.settle("first", spend(0))
    assert isinstance(await waiting[2], Granted)
    assert set(ledger.reserved) == {"2"}
    await desk.close()


async def test_a_reservation_that_is_cancelled_half_way_is_given_back() -> None:
    ledger = ledger_of(100)
    desk = await opened(ledger)
    reserve = ledger.reserve

    async def slow(*arguments: Any, **named: Any) -> Any:
        answer = await reserve(*arguments, **named)
        await asyncio.sleep(60)  # done, but the answer is lost
        return answer

    ledger.reserve = slow  # pyright: ignore[reportAttributeAccessIssue]
    task = asyncio.create_task(desk.reserve("lost", bound=FULL, minimum=LEAST))
    await asyncio.sleep(0.02)
    assert ledger.reserved
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert not ledger.reserved
    await desk.close()


async def test_what_is_held_is_renewed_until_it_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "RENEW_SECONDS", 0.02)
    ledger = ledger_of(1_000)
    desk = await opened(ledger)
    await desk.reserve("long", bound=FULL, minimum=LEAST)
    await asyncio.sleep(0.1)
    assert ledger.renewed.count("long") >= 3
    desk.settle("long", spend(1))
    await asyncio.sleep(0.05)
    count = len(ledger.renewed)
    await asyncio.sleep(0.05)
    assert len(ledger.renewed) == count
    await desk.close()


async def test_another_thread_with_a_loop_of_its_own_reserves_and_settles_on_the_ledgers_loop() -> None:
    ledger = ledger_of(1_000)
    desk = await opened(ledger)

    async def elsewhere() -> None:
        assert isinstance(await desk.reserve("far", bound=FULL, minimum=LEAST), Granted)
        desk.settle("far", spend(7))

    await asyncio.to_thread(asyncio.run, elsewhere())
    await asyncio.sleep(0.02)
    assert ledger.spent.tokens == 7
    assert ledger.loops == {asyncio.get_running_loop()}
    await desk.close()


async def test_another_thread_that_blocks_the_ledgers_loop_is_told_so_instead_of_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk_module, "_FOREIGN_SECONDS", 0.2)
    ledger = ledger_of(1_000)
    desk = await opened(ledger)
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(desk.reserve("far", bound=FULL, minimum=LEAST))
        except LedgerUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()  # what user code must not do on the loop
    assert "blocked" in str(raised[0])
    await asyncio.sleep(0.05)
    assert not ledger.reserved
    await desk.close()


async def test_a_settlement_goes_on_when_its_caller_is_gone_and_closing_waits_for_it() -> None:
    ledger = ledger_of(1_000)
    desk = await opened(ledger)
    settle = ledger.settle

    async def slow(*arguments: Any) -> None:
        await asyncio.sleep(0.1)
        await settle(*arguments)

    ledger.settle = slow  # pyright: ignore[reportAttributeAccessIssue]
    desk.settle("x", spend(9))
    await desk.close()
    assert ledger.spent.tokens == 9


async def test_a_ledger_that_is_away_at_first_is_opened_when_it_comes_and_gets_what_was_spent_meanwhile() -> None:
    ledger = ledger_of(1_000)
    ledger.is_away = True
    desk = await opened(ledger)
    assert not desk.is_open
    with pytest.raises(LedgerUnavailable):
        await desk.reserve("x", bound=FULL, minimum=LEAST)
    desk.settle("x", spend(5))
    ledger.is_away = False
    async with asyncio.timeout(5):
        while not ledger.spends:  # noqa: ASYNC110  the ledger has no event for it
            await asyncio.sleep(0.02)
    assert desk.is_open
    await desk.close()
