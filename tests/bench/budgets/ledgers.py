"""Decides how a worker's ledger is made, from words that fit on a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel
from tests.bench.budgets.check_then_add import CheckThenAdd

from agentservice_api.budget import LedgerSpec, Window, WindowName
from agentservice_api.budget.books import Calendar, calendar
from agentservice_runtime.ledger import api_server
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.interface import Ledger
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from agentservice_runtime.ledger.redis import ClusterRedisLedger, StandaloneRedisLedger
from agentservice_runtime.ledger.server_clock import ServerClock
from agentservice_runtime.ledger.sqlite import SQLiteLedger


class LedgerKind(StrEnum):
    """The ledgers of the tables."""

    CHECK_THEN_ADD = "check, then add"
    SQLITE = "SQLite"
    REDIS = "Redis alone"
    REDIS_IN_CLUSTER = "Redis with AgentLedger"
    KUBERNETES = "Kubernetes"

    @property
    def needs_redis(self) -> bool:
        return self in (LedgerKind.REDIS, LedgerKind.REDIS_IN_CLUSTER)

    @property
    def needs_cluster(self) -> bool:
        return self in (LedgerKind.REDIS_IN_CLUSTER, LedgerKind.KUBERNETES)


class Access(BaseModel):
    """How a worker reaches the API server: as a pod does, but from files that an order names."""

    server: str
    authority: Path
    token: Path
    namespace: str


class LedgerChoice(BaseModel):
    """Which ledger, and where it is."""

    kind: LedgerKind
    name: str
    """Of the account; in a cluster of the AgentLedger."""
    spec: LedgerSpec
    """The limits; in a cluster the AgentLedger has them."""
    path: Path | None = None
    redis_url: str | None = None
    access: Access | None = None
    period_seconds: int | None = None
    """Length of a day, when it is to be shorter than one."""


def short_days(seconds: int) -> Calendar:
    """Return a calendar whose days have so many seconds; months are months."""

    def short(spec: LedgerSpec, name: WindowName, previous: Window | None, moment: datetime) -> Window:
        if name is not WindowName.DAILY:
            return calendar(spec, name, previous, moment)
        began = datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)
        end = began + timedelta(seconds=seconds)
        return Window(name.value, max(began, previous.end) if previous is not None else began, end)

    return short


def make(choice: LedgerChoice, *, pod_uid: str) -> Ledger:
    """Return the ledger, not opened."""
    days = short_days(choice.period_seconds) if choice.period_seconds is not None else calendar
    match choice.kind:
        case LedgerKind.CHECK_THEN_ADD:
            assert choice.path is not None
            return CheckThenAdd(path=choice.path, spec=choice.spec)
        case LedgerKind.SQLITE:
            assert choice.path is not None
            return SQLiteLedger(choice.path, terms=choice.spec, calendar=days)
        case LedgerKind.REDIS:
            url = choice.redis_url
            assert url is not None
            return StandaloneRedisLedger(lambda: url, name=f"bench/{choice.name}", terms=choice.spec, calendar=days)
        case LedgerKind.KUBERNETES:
            return KubernetesLedger(authority=_authority(choice, days), pod=pod_uid)
        case LedgerKind.REDIS_IN_CLUSTER:
            url = choice.redis_url
            assert url is not None
            return ClusterRedisLedger(lambda: url, authority=_authority(choice, days))


def _authority(choice: LedgerChoice, days: Calendar) -> Authority:
    assert choice.access is not None
    access = api_server.Access(
        server=choice.access.server, certificate_authority=choice.access.authority, token=choice.access.token
    )
    clock = ServerClock()
    client = api_server.LedgerClient(access=access, namespace=choice.access.namespace, name=choice.name, clock=clock)
    return Authority(client=client, clock=clock, calendar=days)
