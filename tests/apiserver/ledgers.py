"""AgentLedgers on a real API server, and authorities over them, for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.services.tcp_proxy import TcpProxy

from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, WindowLimit, WindowState
from agentservice_api.budget.books import Calendar, calendar
from agentservice_api.budget.ledger import LEDGER_KIND, LEDGER_PLURAL
from agentservice_api.names import API_VERSION, GROUP, VERSION
from agentservice_runtime.ledger.api_server import Access, LedgerClient, StoredLedger
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.interface import LEASE_SECONDS
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from agentservice_runtime.ledger.redis import ClusterRedisLedger
from agentservice_runtime.ledger.server_clock import ServerClock
from devcluster.standalone import StandaloneControlPlane

SEEDED = LedgerStatus(seeded=True)


def limited(limit: Amount) -> LedgerSpec:
    """Terms with a daily limit."""
    return LedgerSpec(windows=(WindowLimit(name="daily", tokens=limit.tokens, nano_usd=limit.nano_usd),))


async def eventually(condition: Callable[[], bool], *, seconds: float = 40) -> float:
    """Wait until it is true, and return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it has not come true"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@dataclass(frozen=True)
class LedgerObject:
    """One AgentLedger, as the operator and an administrator handle it."""

    plane: StandaloneControlPlane
    namespace: str
    name: str

    @property
    def path(self) -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{LEDGER_PLURAL}"

    def create(self, spec: LedgerSpec, status: LedgerStatus = SEEDED) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": LEDGER_KIND,
            "metadata": {"name": self.name},
            "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self.plane.api.request("POST", self.path, body)
        self.patch({"status": status.model_dump(mode="json", by_alias=True)}, "/status")

    def patch(self, body: dict[str, Any], subresource: str = "") -> None:
        path = f"{self.path}/{self.name}{subresource}"
        self.plane.api.request("PATCH", path, body, content_type="application/merge-patch+json")

    def limit(self, spec: LedgerSpec) -> None:
        """Put other terms in force, as the operator does."""
        self.patch({"spec": spec.model_dump(mode="json", by_alias=True)})

    def delete(self) -> None:
        self.plane.api.request("DELETE", f"{self.path}/{self.name}")

    def read(self) -> StoredLedger:
        return StoredLedger.model_validate(self.plane.api.request("GET", f"{self.path}/{self.name}"))

    def access(self, *, proxy: TcpProxy | None = None) -> Access:
        """As the admin."""
        pair = self.plane.admin
        return Access(
            server=proxy.url if proxy is not None else self.plane.server,
            certificate_authority=self.plane.certificate_authority,
            client_certificate=(pair.certificate, pair.key),
        )

    @contextlib.asynccontextmanager
    async def authority(
        self, *, proxy: TcpProxy | None = None, calendar: Calendar = calendar
    ) -> AsyncIterator[Authority]:
        """An open authority of its own, as another process has it."""
        clock = ServerClock()
        client = LedgerClient(access=self.access(proxy=proxy), namespace=self.namespace, name=self.name, clock=clock)
        authority = Authority(client=client, clock=clock, calendar=calendar)
        try:
            await authority.open()
            yield authority
        finally:
            await authority.close()

    @contextlib.asynccontextmanager
    async def kubernetes(
        self, pod: str, *, word: str | None = None, proxy: TcpProxy | None = None, calendar: Calendar = calendar
    ) -> AsyncIterator[KubernetesLedger]:
        """An open Kubernetes ledger, as the process of ``pod`` has it; closed in the end."""
        ledger = self.unopened(pod, word=word, proxy=proxy, calendar=calendar)
        try:
            await ledger.open()
            yield ledger
        finally:
            await ledger.close()

    def unopened(
        self, pod: str, *, word: str | None = None, proxy: TcpProxy | None = None, calendar: Calendar = calendar
    ) -> KubernetesLedger:
        clock = ServerClock()
        client = LedgerClient(access=self.access(proxy=proxy), namespace=self.namespace, name=self.name, clock=clock)
        return KubernetesLedger(authority=Authority(client=client, clock=clock, calendar=calendar), pod=pod, word=word)

    def in_redis(
        self,
        url: Callable[[], str],
        *,
        proxy: TcpProxy | None = None,
        calendar: Calendar = calendar,
        lease_seconds: float = LEASE_SECONDS,
    ) -> ClusterRedisLedger:
        """An unopened Redis ledger, as a pod's process has it."""
        clock = ServerClock()
        client = LedgerClient(access=self.access(proxy=proxy), namespace=self.namespace, name=self.name, clock=clock)
        authority = Authority(client=client, clock=clock, calendar=calendar)
        return ClusterRedisLedger(url, authority=authority, lease_seconds=lease_seconds)

    def day(self) -> WindowState:
        """The current day as the API server has it."""
        day = self.read().status.current("daily")
        assert day is not None
        return day

    def proxy(self) -> TcpProxy:
        """In front of the API server."""
        port = urlsplit(self.plane.server).port
        assert port is not None
        return TcpProxy(port=port)
