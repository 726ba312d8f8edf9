"""A ledger in Redis whose chunks a real AgentLedger authorises does what every ledger does, and survives Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from tests.budgets.conformance import ConformanceOfLeases, Total, eventually
from tests.services.redis_server import RedisServer

from agentservice_api.budget import Amount, LedgerSpec
from agentservice_runtime.ledger.redis import ClusterRedisLedger
from devcluster.standalone import StandaloneControlPlane

from .ledgers import LedgerObject


class ChunksHouse:
    forgets_slowly = True

    def __init__(self, stored: LedgerObject, server: RedisServer) -> None:
        self.stored = stored
        self._server = server
        self._ledgers: list[ClusterRedisLedger] = []

    async def join(self, spec: LedgerSpec, **options: Any) -> ClusterRedisLedger:
        if not self._ledgers:
            self.stored.create(spec)
        ledger = self.stored.in_redis(lambda: self._server.url, **options)
        await ledger.open()
        self._ledgers.append(ledger)
        return ledger

    async def put_in_force(self, spec: LedgerSpec) -> None:
        self.stored.limit(spec)
        for ledger in self._ledgers:

            async def in_force(ledger: ClusterRedisLedger = ledger) -> LedgerSpec:
                return ledger._ground.offers() and ledger.spec

            await eventually(in_force, spec)

    async def totals(self) -> Mapping[str, Total]:
        ledger = self._ledgers[-1]
        await ledger.open()
        return {view.name: Total(view.spent, view.reserved) for view in ledger.view()}

    async def models(self) -> Mapping[str, Mapping[str, Amount]]:
        for ledger in self._ledgers:
            await ledger.report()
        status = self.stored.read().status
        return {window.name: {one.name: one.amount for one in window.models} for window in status.windows}

    async def close(self) -> None:
        for ledger in self._ledgers:
            await ledger.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(password="sesame") as server:
        yield server


class TestRedisInACluster(ConformanceOfLeases):
    @pytest.fixture
    async def house(
        self, control_plane: StandaloneControlPlane, namespace: str, server: RedisServer
    ) -> AsyncIterator[ChunksHouse]:
        house = ChunksHouse(LedgerObject(control_plane, namespace, "support"), server)
        yield house
        await house.close()
