"""Many processes near the end of a budget, in virtual time: what one knows is soon known to all, and few writes are in vain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from tests.property.ledgers import api_server
from tests.property.ledgers.api_server import ApiServer, Client, Conflict
from tests.property.ledgers.virtual_time import VirtualLoop

from agentservice_api.budget import Amount, LedgerSpec, ModelSpend, WindowLimit
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.interface import Busy, Granted
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from agentservice_runtime.ledger.server_clock import ServerClock
from agentservice_runtime.ledger.slice_keeper import TICK_SECONDS

BOUND, MINIMUM = Amount(500, 500), Amount(230, 230)
REQUESTS = 200
"""About so many fit."""
PROCESSES, CLIENTS = 8, 16


class Crowd:
    """Clients of several processes, each of which goes on until its process tells it that the budget is exhausted."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        limit = WindowLimit(name="daily", tokens=300 * REQUESTS, nano_usd=300 * REQUESTS)
        self.server = ApiServer(LedgerSpec(windows=(limit,)))
        self.settled_at = self.told_at = 0.0
        self.billed = 0
        self.written = self.in_vain = 0
        self._write = self.server.write
        self.server.write = self._counted  # type: ignore[method-assign]

    def _counted(self, members: object, *, version: str) -> object:
        try:
            stored = self._write(members, version=version)  # type: ignore[arg-type]
        except Conflict:
            self.in_vain += 1
            raise
        self.written += 1
        return stored

    async def run(self) -> None:
        ledgers = [self._ledger(f"pod-{number}") for number in range(PROCESSES)]
        for ledger in ledgers:
            await ledger.open()
        async with asyncio.TaskGroup() as tasks:
            for ledger in ledgers:
                for number in range(CLIENTS):
                    tasks.create_task(self._client(ledger, number))
        for ledger in ledgers:
            await ledger.close()

    def _ledger(self, pod: str) -> KubernetesLedger:
        time = asyncio.get_running_loop().time
        clock = ServerClock(monotonic=time)
        client = Client(self.server, clock)
        authority = Authority(client=client, clock=clock, random=self.chance.random, monotonic=time)  # type: ignore[arg-type]
        return KubernetesLedger(authority=authority, pod=pod, word="1", monotonic=time)

    async def _client(self, ledger: KubernetesLedger, number: int) -> None:
        now = asyncio.get_running_loop().time
        for count in range(REQUESTS):
            request_id = f"{number}-{count}"
            while isinstance(answer := await ledger.reserve(request_id, bound=BOUND, minimum=MINIMUM), Busy):
                await ledger.changed(answer.retry_after)
            if not isinstance(answer, Granted):
                self.told_at = max(self.told_at, now())
                return
            await asyncio.sleep(self.chance.uniform(0.02, 0.08))
            cost = self.chance.randint(1, answer.amount.tokens)
            self.billed += cost
            await ledger.settle(request_id, ModelSpend(name="m", price="p", tokens=cost, nano_usd=cost))
            self.settled_at = max(self.settled_at, now())


def in_virtual_time(work: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_who_waits_is_told_soon_after_the_last_of_a_budget_is_spent(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "WAY", 0.03)  # on a busy machine
    crowd = Crowd(seed)
    in_virtual_time(crowd.run)
    assert crowd.billed <= 300 * REQUESTS
    assert crowd.billed > 290 * REQUESTS
    assert crowd.told_at - crowd.settled_at < TICK_SECONDS


def test_few_of_the_writes_of_many_processes_are_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "WAY", 0.03)
    crowds = [Crowd(seed) for seed in range(4)]
    for crowd in crowds:
        in_virtual_time(crowd.run)
    assert sum(crowd.in_vain for crowd in crowds) < 2 * sum(crowd.written for crowd in crowds)
