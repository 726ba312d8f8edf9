"""The ledger of a cluster, kept by a real API server, does what every ledger does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from tests.budgets.conformance import Conformance, Total

from agentservice_api.budget import Amount, LedgerSpec
from agentservice_runtime.ledger.kubernetes import KubernetesLedger
from devcluster.standalone import StandaloneControlPlane

from .ledgers import LedgerObject, eventually


class KubernetesHouse:
    """An AgentLedger, and one pod for each that joins."""

    # what is settled is reported when the slice is returned, or much of it has come together
    forgets_slowly = True

    def __init__(self, ledger: LedgerObject) -> None:
        self._ledger = ledger
        self._pods: list[KubernetesLedger] = []

    async def join(self, spec: LedgerSpec, **options: Any) -> KubernetesLedger:
        if not self._pods:
            self._ledger.create(spec)
        pod = self._ledger.unopened(f"pod-{len(self._pods)}", **options)
        self._pods.append(pod)
        await pod.open()
        return pod

    async def put_in_force(self, spec: LedgerSpec) -> None:
        self._ledger.limit(spec)
        await eventually(lambda: all(pod.spec == spec for pod in self._pods))

    async def totals(self) -> Mapping[str, Total]:
        status = (await asyncio.to_thread(self._ledger.read)).status
        current = {window.name: status.current(window.name) for window in status.windows}
        return {
            name: Total(window.spent, window.authorized - window.settled - window.presumed)
            for name, window in current.items()
            if window is not None
        }

    async def models(self) -> Mapping[str, Mapping[str, Amount]]:
        status = (await asyncio.to_thread(self._ledger.read)).status
        return {window.name: {model.name: model.amount for model in window.models} for window in status.windows}

    async def close(self) -> None:
        await asyncio.gather(*(pod.close() for pod in self._pods))


class TestKubernetes(Conformance):
    @pytest.fixture
    async def house(self, control_plane: StandaloneControlPlane, namespace: str) -> AsyncIterator[KubernetesHouse]:
        house = KubernetesHouse(LedgerObject(control_plane, namespace, "support"))
        yield house
        await house.close()
