"""The ledgers that need no cluster do what every ledger does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.budgets.conformance import ConformanceOfLeases, Total
from tests.services.redis_server import RedisServer

from agentservice_api.budget import Amount, LedgerSpec
from agentservice_runtime.ledger.redis import StandaloneRedisLedger
from agentservice_runtime.ledger.sqlite import SQLiteLedger


class SQLiteHouse:
    forgets_slowly = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledgers: list[SQLiteLedger] = []

    async def join(self, spec: LedgerSpec, **options: Any) -> SQLiteLedger:
        ledger = SQLiteLedger(self._path, terms=spec, **options)
        await ledger.open()
        self._ledgers.append(ledger)
        return ledger

    async def put_in_force(self, spec: LedgerSpec) -> None:
        for ledger in self._ledgers:
            ledger.change(spec)

    async def totals(self) -> Mapping[str, Total]:
        ledger = self._ledgers[-1]
        await ledger.open()
        return {view.name: Total(view.spent, view.reserved) for view in ledger.view()}

    async def models(self) -> Mapping[str, Mapping[str, Amount]]:
        return {
            window.name: {spend.name: spend.amount for spend in spends}
            for window, spends in await self._ledgers[-1].models()
        }

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.close()


class RedisHouse:
    forgets_slowly = False

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._name = f"team-a/{uuid4().hex[:8]}"
        self._ledgers: list[StandaloneRedisLedger] = []

    async def join(self, spec: LedgerSpec, **options: Any) -> StandaloneRedisLedger:
        ledger = StandaloneRedisLedger(lambda: self._server.url, name=self._name, terms=spec, **options)
        await ledger.open()
        self._ledgers.append(ledger)
        return ledger

    async def put_in_force(self, spec: LedgerSpec) -> None:
        for ledger in self._ledgers:
            ledger.change(spec)

    async def totals(self) -> Mapping[str, Total]:
        ledger = self._ledgers[-1]
        await ledger.open()
        return {view.name: Total(view.spent, view.reserved) for view in ledger.view()}

    async def models(self) -> Mapping[str, Mapping[str, Amount]]:
        models = await self._ledgers[-1].models()
        return {name: {spend.name: spend.amount for spend in spends} for (name, _), spends in models.items()}

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(password="sesame") as server:
        yield server


class TestSQLite(ConformanceOfLeases):
    @pytest.fixture
    async def house(self, tmp_path: Path) -> AsyncIterator[SQLiteHouse]:
        house = SQLiteHouse(tmp_path / "ledger.db")
        yield house
        await house.close()


class TestRedisAlone(ConformanceOfLeases):
    @pytest.fixture
    async def house(self, redis: RedisServer) -> AsyncIterator[RedisHouse]:
        house = RedisHouse(redis)
        yield house
        await house.close()
