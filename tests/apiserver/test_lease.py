"""Leader election on a real Lease, in short times."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.apiserver.clients import connected

from agentservice_operator.kube.lease import Elector, LeadershipLost, Timing
from agentservice_operator.kube.resources import CONFIGMAPS, LEASES
from devcluster.standalone import StandaloneControlPlane

SHORT = Timing(duration=3.0, renew_deadline=2.0, retry=0.4)


@asynccontextmanager
async def candidate(kubeconfig: Path, namespace: str, identity: str) -> AsyncIterator[Elector]:
    async with connected(kubeconfig) as client:
        yield Elector(
            client=client,
            namespace=namespace,
            name="leader",
            identity=identity,
            clock=time.monotonic,
            wall=lambda: datetime.now(UTC),
            random=random.random,
            timing=SHORT,
        )


async def test_there_is_never_more_than_one_leader_while_leaders_die(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    leading: set[str] = set()
    most = terms = 0

    async def contend(identity: str) -> None:
        nonlocal most, terms
        while terms < 6:
            async with candidate(control_plane.kubeconfig, namespace, identity) as elector:
                try:
                    async with asyncio.timeout(20):
                        await elector.acquire()
                except TimeoutError:
                    return
                leading.add(identity)
                most, terms = max(most, len(leading)), terms + 1
                holding = asyncio.create_task(elector.hold())
                await asyncio.sleep(0.5)
                elector.guard()
                leading.discard(identity)
                holding.cancel()
                if terms % 2:
                    await elector.release()  # else it dies: nobody leads until the lease has expired
            await asyncio.sleep(0.1)

    await asyncio.wait_for(asyncio.gather(*(contend(name) for name in ("one", "two", "three"))), 60)
    assert most == 1
    assert terms >= 6


async def test_a_leader_cut_off_from_the_api_server_ends_within_its_deadline(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    async with candidate(control_plane.kubeconfig, namespace, "one") as elector:
        await elector.acquire()
        control_plane.stop_program("kube-apiserver")
        began = time.monotonic()
        try:
            with pytest.raises(LeadershipLost):
                await asyncio.wait_for(elector.hold(), 10)
            assert time.monotonic() - began < SHORT.duration + 5
        finally:
            control_plane.start_program("kube-apiserver")
            await asyncio.to_thread(control_plane.wait_ready)


async def test_three_verbs_on_one_name_are_all_that_it_needs(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    user = f"elector-{namespace}"
    kubectl = control_plane.kubectl
    kubectl("-n", namespace, "create", "role", "maker", "--verb=create", "--resource=leases.coordination.k8s.io")
    kubectl(
        "-n", namespace, "create", "role", "holder", "--verb=get,update", "--resource=leases.coordination.k8s.io",
        "--resource-name=leader",
    )  # fmt: skip
    for role in ("maker", "holder"):
        kubectl("-n", namespace, "create", "rolebinding", role, f"--role={role}", f"--user={user}")
    async with candidate(control_plane.user(user), namespace, "one") as elector:
        await asyncio.wait_for(elector.acquire(), 10)
        holding = asyncio.create_task(elector.hold())
        await asyncio.sleep(1)
        assert elector.leading
        holding.cancel()
        await elector.release()
    path = LEASES.path(namespace, "leader")
    record = control_plane.api.request("GET", path)
    assert record["spec"]["holderIdentity"] == ""
    assert record["spec"]["leaseTransitions"] == 0


async def test_the_fence_of_a_lost_lease_stops_a_write(control_plane: StandaloneControlPlane, namespace: str) -> None:
    async with (
        candidate(control_plane.kubeconfig, namespace, "one") as elector,
        connected(control_plane.kubeconfig, guard=elector.guard) as client,
    ):
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": "a"}}
        await elector.acquire()
        await client.create(CONFIGMAPS, manifest, field_manager="t")
        await asyncio.sleep(SHORT.renew_deadline)  # as a frozen process does: no renewal, no word of it
        with pytest.raises(LeadershipLost):
            await client.apply(CONFIGMAPS, manifest, field_manager="t")
