"""A ledger in a Redis that stands alone: what it decides, what it survives, and what it does not say."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tests.budgets.conformance import amount, ask, limits, spend
from tests.services.redis_server import Persistence, RedisServer
from tests.services.tcp_proxy import Fault, TcpProxy

from agentservice_api.budget import UNLIMITED, Amount, LedgerSpec, Verdict, WindowLimit, decide
from agentservice_api.budget.amount import MAX_UNITS
from agentservice_runtime.ledger.interface import Answer, Busy, Exhausted, Granted, LedgerUnavailable
from agentservice_runtime.ledger.redis import StandaloneRedisLedger

PASSWORD = "open-sesame"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


Join = Callable[..., "asyncio.Future[StandaloneRedisLedger]"]


@pytest.fixture
async def join() -> AsyncIterator[Any]:
    """Open ledgers, and close them at the end."""
    opened: list[StandaloneRedisLedger] = []

    async def join(url: str | Callable[[], str], terms: LedgerSpec, **options: Any) -> StandaloneRedisLedger:
        asked = url if callable(url) else lambda: url
        ledger = StandaloneRedisLedger(asked, **{"name": f"team-a/{uuid4().hex[:8]}", "terms": terms, **options})
        await ledger.open()
        opened.append(ledger)
        return ledger

    yield join
    for ledger in opened:
        await ledger.close()


AMOUNTS = some.builds(Amount, some.integers(0, 40), some.integers(0, 40))
LIMITS = some.builds(
    Amount,
    some.integers(0, 60) | some.just(UNLIMITED.tokens),
    some.integers(0, 60) | some.just(UNLIMITED.nano_usd),
)
FIGURES = some.tuples(LIMITS, LIMITS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)


def expected(daily: Amount, monthly: Amount, spent: Amount, reserved: Amount, bound: Amount, minimum: Amount) -> str:
    verdicts = [
        decide(limit=limit, spent=spent, reserved=reserved, bound=bound, minimum=minimum) for limit in (daily, monthly)
    ]
    if Verdict.EXHAUSTED in (verdict for verdict, _ in verdicts):
        return "Exhausted"
    if Verdict.BUSY in (verdict for verdict, _ in verdicts):
        return "Busy"
    return str(bound.at_most(verdicts[0][1]).at_most(verdicts[1][1]))


def told(answer: Answer) -> str:
    return str(answer.amount) if isinstance(answer, Granted) else type(answer).__name__


async def test_the_script_decides_exactly_as_the_rule_in_python(server: RedisServer, join: Any) -> None:
    ledger = await join(server.url, LedgerSpec())
    numbers = itertools.count()
    cases: list[tuple[Amount, ...]] = []

    @settings(max_examples=400, database=None, deadline=None)
    @given(figures=FIGURES)
    def collect(figures: tuple[Amount, ...]) -> None:
        cases.append(figures)

    collect()
    for case in cases:
        daily, monthly, spent, reserved, bound, extra = case
        minimum = bound.at_most(extra)
        prefix = next(numbers)
        ledger._alone._steps.name(f"case-{prefix}")
        ledger.change(LedgerSpec())
        await ledger.open()
        await ledger.settle(f"{prefix}-spent", spend(spent.tokens, nano_usd=spent.nano_usd))
        await ledger.reserve(f"{prefix}-reserved", bound=reserved, minimum=reserved)
        ledger.change(
            LedgerSpec(
                windows=(
                    WindowLimit(name="daily", tokens=daily.tokens, nano_usd=daily.nano_usd),
                    WindowLimit(name="monthly", tokens=monthly.tokens, nano_usd=monthly.nano_usd),
                )
            )
        )
        answer = await ledger.reserve(f"{prefix}-asked", bound=bound, minimum=minimum)
        assert told(answer) == expected(daily, monthly, spent, reserved, bound, minimum), case
    assert len(cases) > 300


async def test_amounts_up_to_the_largest_are_counted_exactly(server: RedisServer, join: Any) -> None:
    ledger = await join(server.url, LedgerSpec())
    large = MAX_UNITS - 20
    await ledger.settle("a", spend(large, nano_usd=large - 1))
    await ledger.reserve("b", bound=Amount(7, 7), minimum=Amount(7, 7))
    (view, _) = ledger.view()
    assert (view.spent, view.reserved) == (Amount(large, large - 1), Amount(7, 7))
    ledger.change(limits(Amount(large + 10, MAX_UNITS)))
    assert isinstance(await ledger.reserve("c", bound=Amount(4, 0), minimum=Amount(4, 0)), Busy)
    assert await ledger.reserve("c", bound=Amount(3, 0), minimum=Amount(3, 0)) == Granted(amount=Amount(3, 0))


async def test_an_answer_that_is_lost_grants_and_settles_once(server: RedisServer, join: Any) -> None:
    async with TcpProxy(port=server.port) as proxy:
        ledger = await join(server.url.replace(str(server.port), str(proxy.port)), limits(amount(1000)))
        for number in range(5):
            proxy.set(Fault.LOSE_ANSWERS)
            with pytest.raises(LedgerUnavailable):
                await ask(ledger, f"r{number}", 100)
            assert proxy.lost > number
            await ledger.settle(f"s{number}", spend(10))  # on its way more than once
            proxy.set(Fault.NONE)
            assert await ask(ledger, f"r{number}", 100) == Granted(amount=amount(100))
        await settled(ledger)
        (daily, _) = ledger.view()
        assert (daily.spent, daily.reserved) == (amount(50), amount(500))


async def settled(ledger: StandaloneRedisLedger) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while ledger._owed:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    await ledger.open()


async def test_while_redis_is_away_nothing_is_granted_and_what_was_billed_is_settled_afterwards(join: Any) -> None:
    with RedisServer(persistence=Persistence.AOF, password=PASSWORD) as server:
        ledger = await join(server.url, limits(amount(1000)))
        assert await ask(ledger, "a", 600) == Granted(amount=amount(600))
        server.kill()
        with pytest.raises(LedgerUnavailable) as refused:
            await ask(ledger, "b", 600)
        for secret in (PASSWORD, str(server.port), server.host):
            assert secret not in str(refused.value)
        assert refused.value.__cause__ is None
        await ledger.settle("a", spend(500))
        server.start()
        await settled(ledger)
        (daily, _) = ledger.view()
        assert daily.spent == amount(500)
        assert isinstance(await ask(ledger, "b", 600), Exhausted)


async def test_a_password_that_is_replaced_is_read_again(server: RedisServer, join: Any) -> None:
    url = server.url
    ledger = await join(lambda: url, limits(amount(1000)))
    server.command("CONFIG", "SET", "requirepass", "another")
    server._password = "another"
    try:
        server.command("CLIENT", "KILL", "TYPE", "normal")
        with pytest.raises(LedgerUnavailable):
            await ask(ledger, "a", 10)
        url = server.url
        assert await ask(ledger, "a", 10) == Granted(amount=amount(10))
    finally:
        server.command("CONFIG", "SET", "requirepass", PASSWORD)
        server._password = PASSWORD


async def test_a_url_that_is_none_is_refused_without_repeating_it(join: Any) -> None:
    with pytest.raises(LedgerUnavailable) as refused:
        await join("http://user:secret@example.com", limits(amount(1)))
    assert "secret" not in str(refused.value)
    assert "redis://" in str(refused.value)


async def test_settled_requests_are_forgotten_in_time_and_leave_nothing_reserved(
    server: RedisServer, join: Any
) -> None:
    ledger = await join(server.url, limits(amount(10**9)), name="team-a/short")
    for number in range(200):
        await ask(ledger, f"r{number}", 10)
        await ledger.settle(f"r{number}", spend(1))
    key = "agentservice:{team-a/short:alone}"
    assert "$200" not in server.command("HLEN", f"{key}:open")
    assert server.command("HLEN", f"{key}:open") == ":0\r\n"
    assert server.command("ZCARD", f"{key}:lease") == ":0\r\n"
    assert server.command("ZCARD", f"{key}:done") == ":200\r\n"
