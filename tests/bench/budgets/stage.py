"""Decides what stands around the workers: the model server, and for each ledger what keeps its accounts."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.budgets.cluster import Cluster
from tests.bench.budgets.ledgers import LedgerChoice, LedgerKind, make
from tests.bench.budgets.processes import Done, ModelServerProcess
from tests.services.redis_server import Persistence, RedisServer

from agentservice_api.budget import Amount, LedgerSpec, WindowName
from agentservice_api.budget.ledger import instant_text
from agentservice_runtime.ledger.redis import StandaloneRedisLedger
from agentservice_runtime.ledger.sqlite import SQLiteLedger


class Stage:
    """A context manager. What a ledger needs is started with the first account that needs it."""

    def __enter__(self) -> Stage:
        self._things = contextlib.ExitStack()
        self.server = self._things.enter_context(ModelServerProcess())
        self._directory = Path(self._things.enter_context(tempfile.TemporaryDirectory()))
        self._redis: RedisServer | None = None
        self._cluster: Cluster | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._things.close()

    @property
    def redis(self) -> RedisServer:
        if self._redis is None:
            self._redis = self._things.enter_context(RedisServer())
        return self._redis

    @contextlib.contextmanager
    def another_redis(self, persistence: Persistence) -> Iterator[RedisServer]:
        """Give accounts that are opened meanwhile a Redis of their own."""
        before = self._redis
        with RedisServer(persistence=persistence) as self._redis:
            yield self._redis
        self._redis = before

    @property
    def cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = self._things.enter_context(Cluster())
        return self._cluster

    def account(
        self, kind: LedgerKind, name: str, spec: LedgerSpec, *, pods: int, period_seconds: int | None = None
    ) -> LedgerChoice:
        """Make a new account that nobody has spent from."""
        access = None
        if kind.needs_cluster:
            ledger = "Redis" if kind is LedgerKind.REDIS_IN_CLUSTER else "Kubernetes"
            short = period_seconds is not None
            access = self.cluster.open_account(name, spec, pods=pods, ledger=ledger, without_windows=short)
        return LedgerChoice(
            kind=kind,
            name=name,
            spec=spec,
            path=self._directory / f"{name}.db",
            redis_url=self.redis.url if kind.needs_redis else None,
            access=access,
            period_seconds=period_seconds,
        )

    def pod_uids(self, choice: LedgerChoice, *, count: int) -> list[str]:
        """Return who the account's pods are."""
        if choice.kind.needs_cluster:
            return self.cluster.pod_uids(choice.name, count=count)
        return [str(uuid.uuid4()) for _ in range(count)]

    def booked(self, choice: LedgerChoice, done: Sequence[Done]) -> Amount:
        """Return what the account's books count as gone from the current day."""
        if choice.kind.needs_cluster:
            return self.cluster.booked(choice.name)
        return max((one.view["daily"] for one in done if one.view), key=lambda seen: seen.tokens)

    def days(self, choice: LedgerChoice) -> Mapping[str, Amount]:
        """Return what the account's books say was billed on each day, by the day's start."""
        if choice.kind.needs_cluster:
            return self.cluster.days(choice.name)
        return asyncio.run(_days(choice))

    def close(self, choice: LedgerChoice) -> None:
        """Take away what an account no longer needs when its row is done."""
        if choice.kind.needs_cluster:
            self.cluster.close_account(choice.name)


async def _days(choice: LedgerChoice) -> Mapping[str, Amount]:
    ledger = make(choice, pod_uid="")
    await ledger.open()
    try:
        if isinstance(ledger, SQLiteLedger):
            books = {(window.name, window.start): models for window, models in await ledger.models()}
        else:
            assert isinstance(ledger, StandaloneRedisLedger)
            books = await ledger.models()
    finally:
        await ledger.close()
    return {
        instant_text(start): sum((spend.amount for spend in models), Amount())
        for (name, start), models in books.items()
        if name == WindowName.DAILY
    }
