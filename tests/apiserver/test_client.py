"""The client against a real API server: what its answers become."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.apiserver.clients import client_over, opened

from agentservice_operator.kube.client import Client
from agentservice_operator.kube.credentials import Endpoint, find_endpoint, from_kubeconfig
from agentservice_operator.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TransportError,
    Unauthorized,
)
from agentservice_operator.kube.resources import (
    AGENTSERVICES,
    CONFIGMAPS,
    DEPLOYMENTS,
    EVENTS,
    HTTPROUTES,
    KNOWN,
    SCALEDOBJECTS,
    SECRETS,
    SERVICEACCOUNTS,
    TRIGGERAUTHENTICATIONS,
    Resource,
)
from agentservice_operator.kube.retry import RetryPolicy
from devcluster.standalone import StandaloneControlPlane


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Clients for a kubeconfig or an endpoint, over real connections."""
    async with AsyncExitStack() as connections:

        async def make(source: Path | Endpoint, **changes: Any) -> Client:
            connection = await connections.enter_async_context(opened(source))
            return client_over(connection, **({"on_unauthorized": connection.distrust_token} | changes))

        yield make


@pytest.fixture
async def client(control_plane: StandaloneControlPlane, connect: Callable[..., Awaitable[Client]]) -> Client:
    return await connect(control_plane.kubeconfig)


def config_map(
    namespace: str, name: str = "a", *, data: dict[str, str] | None = None, **metadata: Any
) -> dict[str, Any]:
    metadata |= {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {}}


async def test_every_kind_that_we_touch_is_served_where_we_look(client: Client, namespace: str) -> None:
    for resource in KNOWN:
        if resource in (HTTPROUTES, SCALEDOBJECTS, TRIGGERAUTHENTICATIONS):
            continue  # the Gateway API and KEDA are installed where a test wants them
        listing = await client.list(resource, namespace=namespace)
        assert listing.resource_version


async def test_a_kind_that_is_not_installed_is_told_from_an_object_that_is_not_there(
    client: Client, namespace: str
) -> None:
    with pytest.raises(NotFound) as caught:
        await client.list(Resource("agentservice.dev", "v9", "Nothing", "nothings"), namespace=namespace)
    assert caught.value.kind_is_absent
    with pytest.raises(NotFound) as caught:
        await client.get(CONFIGMAPS, namespace, "absent")
    assert not caught.value.kind_is_absent


async def test_a_taken_name_a_stale_version_and_another_uid_are_told_apart(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(namespace), field_manager="op")
    with pytest.raises(AlreadyExists):
        await client.create(CONFIGMAPS, config_map(namespace), field_manager="op")
    await client.apply(CONFIGMAPS, config_map(namespace, data={"x": "1"}), field_manager="op")
    with pytest.raises(Conflict) as caught:
        await client.replace(CONFIGMAPS, made, field_manager="op")
    assert not isinstance(caught.value, AlreadyExists)
    with pytest.raises(Conflict):
        await client.delete(CONFIGMAPS, namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Conflict):
        await client.delete(
            CONFIGMAPS,
            namespace,
            "a",
            uid=made["metadata"]["uid"],
            resource_version=made["metadata"]["resourceVersion"],
        )
    await client.delete(CONFIGMAPS, namespace, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.delete(CONFIGMAPS, namespace, "a", uid=made["metadata"]["uid"])


async def test_an_apply_with_a_uid_makes_nothing_new_and_takes_nothing_over(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(namespace), field_manager="op")
    uid = made["metadata"]["uid"]
    await client.apply(CONFIGMAPS, config_map(namespace, uid=uid, data={"x": "1"}), field_manager="op")
    await client.delete(CONFIGMAPS, namespace, "a", uid=uid)
    with pytest.raises(Conflict):
        await client.apply(CONFIGMAPS, config_map(namespace, uid=uid), field_manager="op")
    await client.create(CONFIGMAPS, config_map(namespace), field_manager="somebody")
    with pytest.raises(Conflict):
        await client.apply(CONFIGMAPS, config_map(namespace, uid=uid), field_manager="op")


async def test_an_unknown_field_is_refused_by_name(client: Client, namespace: str) -> None:
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": namespace, "name": "a"},
        "typo": 1,
    }
    for write in (client.apply, client.create):
        with pytest.raises(Invalid, match="typo"):
            await write(SERVICEACCOUNTS, account, field_manager="op")
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "a"}}
    with pytest.raises(Invalid, match="replcas"):
        await client.apply(DEPLOYMENTS, deployment | {"spec": {"replcas": 1}}, field_manager="op")


async def test_an_invalid_manifest_says_which_field_breaks_which_rule(client: Client, namespace: str) -> None:
    agent = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"namespace": namespace, "name": "a"},
        "spec": {"agent": {"instructions": "x"}, "model": {"name": "test"}, "replicas": -1},
    }
    with pytest.raises(Invalid) as caught:
        await client.apply(AGENTSERVICES, agent, field_manager="op")
    assert any(cause.field == "spec.replicas" for cause in caught.value.causes)


async def test_what_the_server_says_of_a_secret_is_kept_to_ourselves(client: Client, namespace: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"}}
    with pytest.raises(Invalid) as caught:
        await client.create(SECRETS, secret | {"data": {"canary-key!": "Y2FuYXJ5"}}, field_manager="op")
    assert "canary" not in str(caught.value) + repr(caught.value.causes)


async def test_a_look_at_a_secrets_metadata_brings_no_value_and_the_same_version(
    client: Client, namespace: str
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": "s"}}
    made = await client.create(SECRETS, secret | {"data": {"key": "Y2FuYXJ5"}}, field_manager="op")
    seen = None
    async with asyncio.timeout(60):
        while seen is None:  # it comes out of the server's cache, which may not have it yet
            try:
                seen = await client.get_metadata(SECRETS, namespace, "s")
            except NotFound:
                await asyncio.sleep(0.1)
    assert "data" not in seen
    assert [seen["metadata"][member] for member in ("uid", "resourceVersion")] == [
        made["metadata"][member] for member in ("uid", "resourceVersion")
    ]


async def test_a_dry_run_writes_nothing(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, config_map(namespace, "a"), field_manager="op", dry_run=True)
    await client.apply(CONFIGMAPS, config_map(namespace, "b"), field_manager="op", dry_run=True)
    listing = await client.list(CONFIGMAPS, namespace=namespace, label_selector="!kubernetes.io/nothing")
    assert not {"a", "b"} & {item["metadata"]["name"] for item in listing.items}


async def test_a_created_object_becomes_ours_by_apply_after_one_json_patch(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(namespace, data={"x": "1", "y": "2"}), field_manager="op")
    (entry,) = made["metadata"]["managedFields"]
    assert entry["operation"] == "Update"
    version = made["metadata"]["resourceVersion"]
    convert = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/metadata/managedFields/0/operation", "value": "Apply"},
    ]
    await client.patch_json(CONFIGMAPS, namespace, "a", convert)
    applied = await client.apply(CONFIGMAPS, config_map(namespace, data={"x": "1"}), field_manager="op")
    assert applied["data"] == {"x": "1"}
    with pytest.raises((Invalid, Conflict)):
        await client.patch_json(CONFIGMAPS, namespace, "a", convert)


async def test_a_list_in_pages_is_of_one_moment_and_metadata_only_has_no_content(
    client: Client, namespace: str
) -> None:
    await asyncio.gather(
        *(
            client.create(CONFIGMAPS, config_map(namespace, f"c{n}", data={"x": "y"}), field_manager="op")
            for n in range(7)
        )
    )
    versions: set[str] = set()
    names: list[str] = []
    async for page in client.pages(CONFIGMAPS, namespace=namespace, limit=3):
        versions.add(page.resource_version)
        names += [item["metadata"]["name"] for item in page.items]
        if len(versions) == 1:
            await client.apply(CONFIGMAPS, config_map(namespace, "late"), field_manager="op")
    assert len(versions) == 1
    assert "late" not in names
    assert len(names) >= 7
    listing = await client.list_metadata(CONFIGMAPS, namespace=namespace)
    assert all("data" not in item and item["kind"] == "ConfigMap" for item in listing.items)


async def test_failed_mounts_can_be_selected_by_their_reason(client: Client, namespace: str) -> None:
    def event(reason: str) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": reason.lower()},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Warning",
            "reason": reason,
            "action": "Mounting",
            "note": "n",
            "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": namespace, "uid": "u"},
            "reportingController": "test.dev/x",
            "reportingInstance": "x",
        }

    for reason in ("FailedMount", "Scheduled"):
        await client.create(EVENTS, event(reason), field_manager="op")
    listing = await client.list(EVENTS, namespace=namespace, field_selector="reason=FailedMount")
    assert [item["metadata"]["name"] for item in listing.items] == ["failedmount"]


async def test_a_server_whose_certificate_nobody_vouches_for_is_told_nothing(
    control_plane: StandaloneControlPlane, connect: Callable[..., Awaitable[Client]]
) -> None:
    endpoint = replace(from_kubeconfig(control_plane.kubeconfig), tls=ssl.create_default_context())
    with pytest.raises(TransportError, match="cannot connect"):
        await (await connect(endpoint, policy=RetryPolicy(attempts=1))).get(CONFIGMAPS, "default", "a")


async def test_a_missing_permission_is_forbidden(
    control_plane: StandaloneControlPlane, namespace: str, connect: Callable[..., Awaitable[Client]]
) -> None:
    stranger = await connect(control_plane.user("stranger"))
    with pytest.raises(Forbidden, match="configmaps"):
        await stranger.list(CONFIGMAPS, namespace=namespace)


async def test_a_pods_service_account_is_known_and_a_rotated_token_is_picked_up(
    control_plane: StandaloneControlPlane, namespace: str, connect: Callable[..., Awaitable[Client]], tmp_path: Path
) -> None:
    url = urlsplit(control_plane.server)
    (tmp_path / "ca.crt").symlink_to(control_plane.certificate_authority)
    (tmp_path / "token").write_text("not-a-token")
    endpoint = find_endpoint(
        {"KUBERNETES_SERVICE_HOST": str(url.hostname), "KUBERNETES_SERVICE_PORT": str(url.port)},
        service_account=tmp_path,
    )
    client = await connect(endpoint)
    with pytest.raises(Unauthorized):
        await client.list(CONFIGMAPS, namespace=namespace)
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "operator")
    token = control_plane.kubectl("-n", namespace, "create", "token", "operator").stdout.strip()
    (tmp_path / "token").write_text(token)
    with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:operator"):
        await client.list(CONFIGMAPS, namespace=namespace)
