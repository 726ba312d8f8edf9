"""One reconcile against stores and a client that answers as the API server does, without one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentservice_api import names
from agentservice_operator import observe, write
from agentservice_operator.caches import BY_POD, BY_REFERENCE, BY_SERVICE, Caches, index_by_reference, index_by_service
from agentservice_operator.kube.errors import ApiError, Forbidden, NotFound
from agentservice_operator.kube.mounts import MountFailures
from agentservice_operator.kube.store import ObjectStore
from agentservice_operator.lost import LostLedgers
from agentservice_operator.manifest import Key, Manifest
from agentservice_operator.reconcile import Effects, Reconciler

from .builders import PLATFORM, UID, secret_reader
from .test_lost import SEEDED
from .test_plan import stored

KEY = Key("team-a", "support")
AUTOSCALING = {"provider": "KEDA", "maxReplicas": 9}


class Server:
    """Answers creates and applies with the object as it would be stored; `meanwhile` changes an AgentService under us."""

    def __init__(self, live: Manifest) -> None:
        self.live = live
        self.version = 100
        self.written: list[str] = []
        self.meanwhile: Any = None
        self.stored: dict[str, Manifest] = {}
        """Children that are patched."""

    async def create(self, resource: Any, manifest: Manifest, **_: Any) -> Manifest:
        self.version += 1
        self.written.append(f"create {manifest['kind']}")
        return stored(manifest, uid=manifest["kind"], resourceVersion=str(self.version))

    async def get(self, resource: Any, namespace: str, name: str) -> Manifest:
        if self.live is None:
            raise NotFound(status=404, name=name)
        return self.live

    async def patch_json(self, resource: Any, namespace: str, name: str, operations: Any, **_: Any) -> Manifest:
        self.written.append(f"patch {resource.kind}")
        return self.stored[resource.kind]

    async def apply(self, resource: Any, manifest: Manifest, **_: Any) -> Manifest:
        if manifest["kind"] != names.KIND:
            self.written.append(f"apply {manifest['kind']}")
            self.version += 1
            return stored(manifest, uid=manifest["kind"], resourceVersion=str(self.version))
        if self.live is None:
            raise NotFound(status=404, name="support")
        self.written.append(f"apply {manifest['kind']} status")
        if self.meanwhile is not None:
            self.live = self.meanwhile(self.live)
        self.version += 2
        meta = {**self.live["metadata"], "resourceVersion": str(self.version)}
        self.live = {**self.live, "metadata": meta, "status": manifest["status"]}
        return self.live


def live_agent(generation: int = 1, **annotations: str) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": "support",
            "namespace": "team-a",
            "uid": UID,
            "generation": generation,
            "resourceVersion": str(90 + generation),
            "annotations": annotations,
        },
        "spec": {"agent": {"instructions": f"Number {generation}."}, "model": {"name": "test"}},
    }


def setting(live: Manifest) -> tuple[Server, Caches, Reconciler, list[Key]]:
    told: list[Key] = []
    services = ObjectStore(
        trim=observe.trim_agent_service,
        indexes={BY_REFERENCE: index_by_reference},
        on_change=lambda old, new: told.append(KEY),
    )
    services.put(live)
    told.clear()

    def children() -> ObjectStore:
        return ObjectStore(trim=observe.trim_child, indexes={BY_SERVICE: index_by_service})

    caches = Caches(
        agent_services=services,
        children={
            kind: children()
            for kind in (
                "ConfigMap",
                "ServiceAccount",
                "Role",
                "RoleBinding",
                "Service",
                "PodDisruptionBudget",
                "HorizontalPodAutoscaler",
                "ScaledObject",
                "TriggerAuthentication",
                "HTTPRoute",
                "Deployment",
            )
        },
        replica_sets=children(),
        pods=children(),
        failed_mounts=MountFailures(by_pod=BY_POD),
        references=ObjectStore(),
        ledgers=ObjectStore(trim=observe.trim_ledger),
        lost_ledgers=LostLedgers(),
    )
    server = Server(live)
    effects = Effects(
        now=lambda: datetime(2026, 11, 23, tzinfo=UTC),
        token=lambda: "t",
        announce=lambda live, announcement: None,
        log_revision=lambda revision: None,
        tell=lambda key, conditions: None,
        tell_budget=lambda key, windows: None,
        monotonic=lambda: 0.0,
        server_time=lambda: datetime(2026, 11, 23, tzinfo=UTC),
        wrote=lambda key, kinds: 0.0,
    )
    client: Any = server
    return (
        server,
        caches,
        Reconciler(
            client=client, caches=caches, platform=PLATFORM, defaults={}, effects=effects, secrets=secret_reader(client)
        ),
        told,
    )


async def test_a_new_agent_is_four_creates_and_one_status() -> None:
    server, _, reconciler, _ = setting(live_agent())
    await reconciler.reconcile(KEY)
    kinds = ["ConfigMap", "ServiceAccount", "Service", "Deployment"]
    assert server.written == [*(f"create {kind}" for kind in kinds), "apply AgentService status"]


async def test_a_second_look_before_the_watch_has_told_of_our_writes_writes_nothing() -> None:
    server, _, reconciler, _ = setting(live_agent())
    await reconciler.reconcile(KEY)
    server.written.clear()
    await reconciler.reconcile(KEY)
    assert server.written == []


async def test_a_change_that_slips_in_before_our_status_is_not_lost() -> None:
    server, caches, reconciler, told = setting(live_agent())
    server.meanwhile = lambda live: live_agent(generation=2)
    await reconciler.reconcile(KEY)
    caches.agent_services.put(server.live)  # what the watch brings
    assert told == [KEY]
    known = caches.agent_services.get(*KEY)
    assert known is not None
    assert known["metadata"]["generation"] == 2


async def test_an_annotation_that_slips_in_before_our_status_is_not_lost() -> None:
    server, caches, reconciler, told = setting(live_agent())
    server.meanwhile = lambda live: live_agent(**{names.ANNOTATION_PAUSED: "true"})
    await reconciler.reconcile(KEY)
    caches.agent_services.put(server.live)
    assert told == [KEY]


@pytest.mark.parametrize("is_dying", [False, True])
async def test_a_child_without_its_owner_gets_it_back_unless_the_agent_is_being_deleted_from_it(is_dying: bool) -> None:
    server, caches, reconciler, _ = setting(live_agent())
    await reconciler.reconcile(KEY)
    (service,) = caches.children["Service"].by_index(BY_SERVICE, KEY)
    orphan = {**service["metadata"], "ownerReferences": [], "resourceVersion": "900"}
    entry = {**orphan["managedFields"][0]}
    entry["fieldsV1"] = {**entry["fieldsV1"], "f:metadata": {"f:annotations": {}, "f:labels": {}}}
    server.stored["Service"] = {**service, "metadata": {**orphan, "managedFields": [entry]}}
    caches.children["Service"].put(server.stored["Service"])
    server.written.clear()
    if is_dying:  # which our watch has not told of
        server.live["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    await reconciler.reconcile(KEY)
    assert bool(server.written) is not is_dying
    assert ("apply Service" in server.written) is not is_dying


@pytest.mark.parametrize("is_gone", [False, True])
async def test_nothing_comes_back_for_an_agent_that_was_deleted_before_its_ledger(is_gone: bool) -> None:
    server, caches, reconciler, _ = setting(live_agent())
    caches.lost_ledgers.saw(KEY, SEEDED, None, told=True)
    if is_gone:  # which our watch has not told of
        server.live = None
    await reconciler.reconcile(KEY)
    assert bool(server.written) is not is_gone


@pytest.mark.parametrize(("refusals", "reason"), [(2, "Progressing"), (99, "Forbidden")], ids=["behind", "for-good"])
@pytest.mark.parametrize("refusal", [Forbidden(status=403), NotFound(status=404)], ids=["403", "404"])
async def test_a_scaled_object_that_is_refused_is_tried_again_at_once_and_told_of_when_that_does_not_help(
    monkeypatch: pytest.MonkeyPatch, refusals: int, reason: str, refusal: ApiError
) -> None:
    """As KEDA's admission does for a moment whose watch has not heard of our Deployment yet."""
    monkeypatch.setattr(write, "ADMISSION_SECONDS", (0.0, 0.0, 0.0))
    live = live_agent()
    server, _, reconciler, _ = setting({**live, "spec": {**live["spec"], "autoscaling": AUTOSCALING}})
    create, refused = server.create, 0

    async def admitted(resource: Any, manifest: Manifest, **options: Any) -> Manifest:
        nonlocal refused
        if manifest["kind"] == "ScaledObject" and refused < refusals:
            refused += 1
            raise refusal
        return await create(resource, manifest, **options)

    monkeypatch.setattr(server, "create", admitted)
    await reconciler.reconcile(KEY)
    assert "create Deployment" in server.written
    assert ("create ScaledObject" in server.written) is (refusals == 2)
    ready = next(c for c in server.live["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"], refused) == ("False", reason, min(refusals, 4))


async def test_an_agent_deleted_before_our_status_is_no_failure() -> None:
    server, _, reconciler, _ = setting(live_agent())
    server.live = None
    assert (await reconciler.reconcile(KEY)).requeue_after is None


async def test_paused_writes_nothing_but_the_status() -> None:
    server, _, reconciler, _ = setting(live_agent(**{names.ANNOTATION_PAUSED: "true"}))
    await reconciler.reconcile(KEY)
    assert server.written == ["apply AgentService status"]


async def test_a_specification_that_cannot_be_used_writes_nothing_but_the_status() -> None:
    live = live_agent()
    live["spec"]["agent"]["input"] = {"schema": {"type": "object"}, "promptTemplate": "{nobody}"}
    server, _, reconciler, _ = setting(live)
    await reconciler.reconcile(KEY)
    assert server.written == ["apply AgentService status"]
    conditions = {c["type"]: c["status"] for c in server.live["status"]["conditions"]}
    assert (conditions["SpecAccepted"], conditions["Ready"], conditions["Stalled"]) == ("False", "False", "True")
