"""What befalls a Redis that hands out chunks of a real AgentLedger, and those who use it: nothing is overspent, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from tests.budgets.conformance import amount, ask, limits, spend
from tests.services.redis_server import Persistence, RedisServer
from tests.services.tcp_proxy import Fault

from agentservice_api.budget import ZERO, Amount
from agentservice_api.budget.books import forgive_presumed, presume_gone
from agentservice_runtime.ledger.interface import Busy, Exhausted, Granted, Ledger, LedgerUnavailable
from agentservice_runtime.ledger.redis import ClusterRedisLedger
from devcluster.standalone import StandaloneControlPlane

from .ledgers import LedgerObject, eventually

BOUND = 100


@pytest.fixture
def stored(control_plane: StandaloneControlPlane, namespace: str) -> LedgerObject:
    return LedgerObject(control_plane, namespace, "support")


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(password="sesame") as server:
        yield server


@contextlib.asynccontextmanager
async def processes(stored: LedgerObject, server: RedisServer, count: int) -> AsyncIterator[list[ClusterRedisLedger]]:
    """Open as many ledgers as there are pods."""
    async with AsyncExitStack() as stack:
        opened: list[ClusterRedisLedger] = []
        for _ in range(count):
            ledger = stored.in_redis(lambda: server.url)
            await ledger.open()
            stack.push_async_callback(ledger.close)
            opened.append(ledger)
        yield opened


@dataclass
class Load:
    """Clients that ask until they are told that it is exhausted, and the provider's own count of what they spent."""

    billed: int = 0
    served: int = 0
    unavailable: int = 0
    refused: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(11))

    async def client(self, ledger: Ledger, name: str, *, until: Callable[[], bool] = lambda: False) -> None:
        number = 0
        while not until():
            number += 1
            request_id = f"{name}-{number}"
            try:
                answer = await ledger.reserve(request_id, bound=amount(BOUND), minimum=amount(10))
                while isinstance(answer, Busy):
                    await ledger.changed(answer.retry_after)
                    answer = await ledger.reserve(request_id, bound=amount(BOUND), minimum=amount(10))
            except LedgerUnavailable:
                self.unavailable += 1
                await asyncio.sleep(0.1)
                continue
            if isinstance(answer, Exhausted):
                self.refused += 1
                return
            assert isinstance(answer, Granted)
            await asyncio.sleep(self.chance.uniform(0.005, 0.03))
            cost = self.chance.randint(1, answer.amount.tokens)
            self.billed += cost
            self.served += 1
            await ledger.settle(request_id, spend(cost))

    async def run(self, ledgers: list[ClusterRedisLedger], clients: int) -> None:
        async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
            for pod, ledger in enumerate(ledgers):
                for client in range(clients):
                    tasks.create_task(self.client(ledger, f"{pod}-{client}"))


def settled_and_held(stored: LedgerObject) -> tuple[Amount, Amount]:
    day = stored.day()
    return day.settled + day.overrun, day.authorized - day.settled - day.presumed


@pytest.mark.parametrize("requests", [30, 200])
async def test_four_pods_spend_nearly_all_of_a_small_budget_and_nothing_more(
    stored: LedgerObject, server: RedisServer, requests: int
) -> None:
    limit = requests * BOUND // 2
    stored.create(limits(amount(limit)))
    load = Load()
    async with processes(stored, server, 4) as ledgers:
        await load.run(ledgers, 16)
        assert 0.97 * limit <= load.billed <= limit
    assert settled_and_held(stored) == (amount(load.billed), ZERO)
    assert load.refused == 4 * 16


@pytest.mark.parametrize("persistence", [Persistence.AOF, Persistence.RDB, Persistence.NOTHING])
async def test_a_redis_that_is_killed_and_comes_back_overspends_nothing_and_serves_again(
    stored: LedgerObject, persistence: Persistence
) -> None:
    limit = 1000 * BOUND // 2
    stored.create(limits(amount(limit)))
    load = Load()
    with RedisServer(persistence=persistence, password="sesame") as server:
        async with processes(stored, server, 3) as ledgers:
            running = asyncio.create_task(load.run(ledgers, 8))
            await eventually(lambda: load.served >= 100, seconds=30)
            if persistence is Persistence.RDB:
                # an old state with every marker in place
                server.command("SAVE")
                await eventually(lambda: load.served >= 250, seconds=30)
            server.kill()
            before = load.served
            await asyncio.sleep(0.3)
            server.start()
            await eventually(lambda: load.served >= before + 100, seconds=30)
            await running
            assert load.billed <= limit
            assert load.billed + stored.day().presumed.tokens >= 0.95 * limit
            holders = {hand.holder for hand in stored.read().status.holders}
            assert len(holders) == 1
    day = stored.day()
    assert day.overrun == ZERO
    # what was in flight when it died counts twice at most: presumed with that life, and never below what was billed
    assert day.settled.tokens + day.presumed.tokens >= load.billed


async def test_a_redis_that_is_emptied_while_it_runs_is_another_life(stored: LedgerObject, server: RedisServer) -> None:
    stored.create(limits(amount(10_000)))
    async with processes(stored, server, 2) as (first, second):
        for number in range(20):
            assert isinstance(await ask(first, f"r{number}", 100), Granted)
            await first.settle(f"r{number}", spend(100))
        server.command("FLUSHALL")
        assert isinstance(await ask(second, "after", 100), Granted)
        await second.settle("after", spend(100))
        await second.report()
        day = stored.day()
        # all 2,000 count, reported or not
        assert day.spent.tokens >= 2100
        granted = 0
        while isinstance(await ask(first, f"more-{granted}", 100), Granted):
            await first.settle(f"more-{granted}", spend(100))
            granted += 1
        assert 2100 + 100 * granted <= 10_000


async def test_a_pod_that_is_killed_while_it_tops_up_keeps_the_others_waiting_for_two_seconds_at_most(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(10_000)))
    async with processes(stored, server, 2) as (first, second):
        authority = first._chunks._authority
        entered = asyncio.Event()
        transact = authority.transact

        async def dies(*args: object, **options: object) -> object:
            entered.set()
            await asyncio.sleep(3600)
            return await transact(*args, **options)  # type: ignore[arg-type]

        authority.transact = dies  # type: ignore[method-assign]
        lost = asyncio.create_task(ask(first, "a", 100))
        await entered.wait()
        assert server.command("HEXISTS", key_of(stored), "lock") == ":1\r\n"
        began = asyncio.get_running_loop().time()
        answer = await ask(second, "b", 100)
        while isinstance(answer, Busy):
            await second.changed(answer.retry_after)
            answer = await ask(second, "b", 100)
        assert isinstance(answer, Granted)
        assert asyncio.get_running_loop().time() - began < 4
        await second.settle("b", spend(100))
        lost.cancel()
        for task in (first._chunks._taker, first._chunks._reporter):
            assert task is not None
            task.cancel()
        authority.transact = transact  # type: ignore[method-assign]


def key_of(stored: LedgerObject) -> str:
    return f"agentservice:{{ledger-{stored.read().metadata.uid}}}:book"


async def test_an_answer_of_the_api_server_that_is_lost_gives_one_chunk(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(10_000)))
    async with stored.proxy() as proxy:
        ledger = stored.in_redis(lambda: server.url, proxy=proxy)
        await ledger.open()
        proxy.set(Fault.LOSE_ANSWERS)
        asked = asyncio.create_task(ask(ledger, "a", 100))
        await eventually(lambda: proxy.lost > 0)
        await asyncio.sleep(0.2)
        proxy.set(Fault.NONE)
        with contextlib.suppress(LedgerUnavailable):
            await asked
        assert await ask(ledger, "a", 100) == Granted(amount=amount(100))
        (hand,) = (hand for hand in stored.read().status.holders if hand.window == "daily")
        assert hand.held == hand.granted == amount(200)
        await ledger.settle("a", spend(70))
        await ledger.close()
    assert settled_and_held(stored) == (amount(70), ZERO)


async def test_an_entry_that_was_struck_off_is_spent_and_redis_begins_anew(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(10_000)))
    async with processes(stored, server, 1) as (ledger,), stored.authority() as authority:
        assert isinstance(await ask(ledger, "a", 100), Granted)
        await authority.transact(lambda status, spec, now: presume_gone(status, lambda _: True))
        assert isinstance(await ask(ledger, "b", 150), Granted)
        await ledger.settle("a", spend(100))
        await ledger.settle("b", spend(150))
        await ledger.report()
        day = stored.day()
        # how much is presumed depends on who hears of the strike first; what was billed is in the books all the same
        assert amount(250).fits(day.presumed + day.settled)
        assert day.settled in (amount(150), amount(250))


async def test_what_a_living_redis_has_lost_and_a_person_has_forgiven_stays_forgiven(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(1000)))
    async with AsyncExitStack() as stack:
        mortal, other = (stored.in_redis(lambda: server.url, lease_seconds=seconds) for seconds in (0.2, 30.0))
        authority = await stack.enter_async_context(stored.authority())
        for ledger in (mortal, other):
            await ledger.open()
            stack.push_async_callback(ledger.close)
        assert isinstance(await ask(mortal, "lost", 100), Granted)
        while stored.day().presumed != amount(100):
            await asyncio.sleep(0.1)
            await other.report()
        day = stored.day().key
        await authority.look()  # its watch may not have told of it yet
        await authority.transact(lambda status, spec, now: forgive_presumed(status, day))
        assert stored.day().presumed == ZERO
        assert isinstance(await ask(other, "a", 50), Granted)
        await other.settle("a", spend(50))
        await other.report()
        assert (stored.day().presumed, stored.day().settled) == (ZERO, amount(50))
        await mortal.settle("lost", spend(70))  # it was alive
        await other.report()
        assert (stored.day().presumed, stored.day().settled) == (ZERO, amount(120))


async def test_a_limit_that_is_lowered_gets_back_what_is_idle_and_grants_nothing_beyond(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(100_000)))
    async with processes(stored, server, 1) as (ledger,):
        assert isinstance(await ask(ledger, "a", 100), Granted)
        await ledger.settle("a", spend(100))
        assert stored.day().authorized == amount(2000)
        stored.limit(limits(amount(1000)))
        await eventually(lambda: stored.day().authorized.tokens <= 1000)
        served = 0
        while isinstance(answer := await ask(ledger, f"r{served}", 100), Granted):
            await ledger.settle(f"r{served}", spend(100))
            served += 1
        assert isinstance(answer, Exhausted)
        assert served == 9


async def test_what_redis_holds_idle_a_pod_with_slices_gets_when_it_waits_and_the_other_way_round(
    stored: LedgerObject, server: RedisServer
) -> None:
    stored.create(limits(amount(1000)))
    async with processes(stored, server, 1) as (ledger,), stored.kubernetes("pod") as pod:
        assert isinstance(await ask(ledger, "a", 500), Granted)
        assert isinstance(await ask(pod, "b", 600), Busy)
        await ledger.settle("a", spend(100))
        async with asyncio.timeout(15):
            while isinstance(answer := await ask(pod, "b", 600), Busy):
                await pod.changed(answer.retry_after)
        assert isinstance(answer, Granted)
        assert isinstance(await ask(ledger, "c", 400), Busy)
        await pod.settle("b", spend(500))
        async with asyncio.timeout(15):
            while isinstance(answer := await ask(ledger, "c", 400), Busy):
                await ledger.changed(answer.retry_after)
        assert isinstance(answer, Granted)
        await ledger.settle("c", spend(400))
        async with asyncio.timeout(15):
            while isinstance(answer := await ask(ledger, "d", 10), Busy):
                await ledger.changed(answer.retry_after)
        assert isinstance(answer, Exhausted)
    assert settled_and_held(stored) == (amount(1000), ZERO)
