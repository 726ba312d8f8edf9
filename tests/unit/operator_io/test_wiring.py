"""Which change concerns whom."""

import time
from typing import Any

from agentservice_operator.kube.mounts import MountFailures
from agentservice_operator.manifest import Key
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell.wiring import OWNED, USAGE_PACE, Wiring, owners, watched_permissions

KEY = Key("ns", "support")


class Heard(WorkQueue):
    def __init__(self) -> None:
        super().__init__(clock=time.monotonic, random=lambda: 0.5)
        self.keys: list[Key] = []
        self.later: list[tuple[Key, float]] = []

    def add(self, key: Key, **_: Any) -> None:
        self.keys.append(key)

    def add_after(self, key: Key, seconds: float, **_: Any) -> None:
        self.later.append((key, seconds))

    def take(self) -> list[Key]:
        taken, self.keys = self.keys, []
        return taken


def wired(client: Any) -> tuple[Wiring, Heard]:
    queue = Heard()
    wiring = Wiring(client=client, queue=queue, namespaces=(), clock=time.monotonic, random=lambda: 0.5)
    wiring.agent_services.observe("ADDED", agent(1))
    queue.take()
    return wiring, queue


def agent(version: int, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "support", "uid": "u", "resourceVersion": str(version), "generation": 1}
    return {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": metadata,
        "spec": {"agent": spec},
    }


def child(
    version: int, *, name: str = "support", labels: dict[str, str] | None = None, **metadata: Any
) -> dict[str, Any]:
    owner = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "name": "support",
        "uid": "u",
        "controller": True,
    }
    made = {
        "namespace": "ns",
        "name": name,
        "uid": f"c-{name}",
        "resourceVersion": str(version),
        "ownerReferences": [owner],
    }
    return {"kind": "Service", "apiVersion": "v1", "metadata": made | {"labels": labels or {}} | metadata, "spec": {}}


def test_a_child_is_its_owners_and_its_labels_whichever_is_left() -> None:
    labels = {"agentservice.dev/name": "support"}
    assert set(owners(child(1))) == {KEY}
    assert set(owners(child(1, labels=labels, ownerReferences=[]))) == {KEY}
    foreign = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "y", "controller": True}
    assert set(owners(child(1, ownerReferences=[foreign]))) == set()


async def test_a_changed_or_deleted_child_wakes_its_agent(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    services = wiring.caches.children["Service"]
    services.put(child(5))
    assert queue.take() == [KEY]
    services.put(child(6))
    assert queue.take() == []
    services.put(child(7, labels={"a": "b"}))
    assert queue.take() == [KEY]
    services.bury(child(8))
    assert queue.take() == [KEY]


async def test_a_child_without_its_agent_wakes_nobody(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.agent_services.observe("DELETED", agent(2))
    assert queue.take() == [KEY]
    wiring.caches.children["Service"].put(child(5))
    assert queue.take() == []


async def test_ones_own_write_wakes_nobody(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.caches.children["Service"].remember(child(5))
    wiring.caches.children["Service"].put(child(5))
    wiring.agent_services.remember(agent(9) | {"status": {"observedGeneration": 1}})
    wiring.agent_services.observe("MODIFIED", agent(9) | {"status": {"observedGeneration": 1}})
    assert queue.take() == []


async def test_a_config_map_wakes_who_refers_to_it(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.agent_services.observe(
        "MODIFIED", agent(2, instructionsFrom={"configMapKeyRef": {"name": "prompt", "key": "k"}})
    )
    queue.take()
    prompt = {"metadata": {"namespace": "ns", "name": "prompt", "uid": "p", "resourceVersion": "5"}}
    wiring.caches.references.put(prompt)
    assert queue.take() == [KEY]
    wiring.caches.references.put({"metadata": {**prompt["metadata"], "name": "other", "uid": "o"}})
    assert queue.take() == []
    wiring.caches.references.bury(prompt)
    assert queue.take() == [KEY]


async def test_the_content_of_a_referenced_config_map_counts_by_its_version(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.agent_services.observe(
        "MODIFIED", agent(2, instructionsFrom={"configMapKeyRef": {"name": "prompt", "key": "k"}})
    )
    for version in ("5", "6"):
        queue.take()
        wiring.caches.references.put(
            {"metadata": {"namespace": "ns", "name": "prompt", "uid": "p", "resourceVersion": version}}
        )
        assert queue.take() == [KEY]


def pod(version: int, **status: Any) -> dict[str, Any]:
    labels = {"agentservice.dev/name": "support"}
    metadata = {"namespace": "ns", "name": "pod", "uid": "pod-uid", "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, "spec": {}, "status": status}


def mount_event(note: str, *, uid: str = "pod-uid", version: int = 1) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "e", "uid": f"e{version}", "resourceVersion": str(version)}
    return {"metadata": metadata, "regarding": {"namespace": "ns", "name": "pod", "uid": uid}, "note": note}


async def test_a_failed_mount_wakes_the_agent_and_is_kept_after_its_event_expired(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.caches.pods.put(pod(1))
    queue.take()
    events = wiring.informers[-1]
    events.put(mount_event('secret "openai" not found'))
    assert queue.take() == [KEY]
    events.bury(mount_event("", version=1))
    assert wiring.caches.failed_mounts.by_index("pod", "pod-uid")[0]["note"] == 'secret "openai" not found'
    running = {"name": "agent", "ready": True, "restartCount": 0, "state": {"running": {"startedAt": "x"}}}
    wiring.caches.pods.put(pod(2, containerStatuses=[running]))
    assert wiring.caches.failed_mounts.by_index("pod", "pod-uid") == []


def test_the_memory_of_failed_mounts_is_bounded() -> None:
    failures = MountFailures(by_pod="pod")
    for number in range(5000):
        failures.latch(mount_event("n", uid=str(number)))
    assert failures.by_index("pod", "0") == []
    assert failures.by_index("pod", "4999")


async def test_every_owned_kind_is_watched_by_our_label_and_no_secret_is(make_client: Any) -> None:
    assert {watch.resource.kind for watch in OWNED} == {
        "ConfigMap",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "Ingress",
        "HTTPRoute",
        "ScaledObject",
        "TriggerAuthentication",
    }
    assert "secrets" not in {resource.plural for resource, _ in watched_permissions()}
    wiring, _ = wired(make_client())
    assert len(wiring.informers) == len(watched_permissions())


def ledger(version: int, *, seeded: bool = True, tokens: int = 0, limit: int = 10, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentLedger",
        "metadata": {
            "namespace": "ns",
            "name": "support",
            "uid": "l",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-01T00:00:00Z",
            **metadata,
        },
        "spec": {"windows": [{"name": "daily", "tokens": limit}]},
        "status": {"seeded": seeded, "windows": [{"settledTokens": tokens}]},
    }


async def test_what_pods_spend_wakes_the_agent_a_moment_later_and_all_else_of_a_ledger_at_once(
    make_client: Any,
) -> None:
    wiring, queue = wired(make_client())
    ledgers: Any = wiring.caches.ledgers
    ledgers.put(ledger(5))
    assert queue.take() == [KEY]
    ledgers.put(ledger(6, tokens=100))
    assert (queue.take(), queue.later) == ([], [(KEY, USAGE_PACE)])
    for changed in (
        ledger(7, limit=20),
        ledger(8, limit=20, seeded=False),
        ledger(9, limit=20, seeded=False, annotations={"a": "b"}),
    ):
        ledgers.put(changed)
        assert queue.take() == [KEY]
    ledgers.bury(ledger(10))
    assert queue.take() == [KEY]
    assert len(queue.later) == 1


async def test_a_deleted_ledger_is_remembered_and_one_that_a_list_lacks_is_not_trusted_to_be_the_last(
    make_client: Any,
) -> None:
    wiring, _ = wired(make_client())
    ledgers: Any = wiring.caches.ledgers
    ledgers.put(ledger(5))
    ledgers.bury(ledger(6))
    remains = wiring.caches.lost_ledgers.get(KEY)
    assert remains is not None
    assert remains.is_last
    ledgers.put(ledger(7, uid="l2"))
    assert wiring.caches.lost_ledgers.get(KEY) is None
    ledgers.prune(seen=set(), version="9", namespace="")
    remains = wiring.caches.lost_ledgers.get(KEY)
    assert remains is not None
    assert not remains.is_last


async def test_a_pod_without_its_agent_wakes_the_ledger_that_is_left(make_client: Any) -> None:
    wiring, queue = wired(make_client())
    wiring.caches.pods.put(pod(1))
    wiring.caches.ledgers.put(ledger(5))  # type: ignore[attr-defined]
    wiring.agent_services.observe("DELETED", agent(2))
    queue.take()
    wiring.caches.pods.bury(pod(3))  # type: ignore[attr-defined]
    assert queue.take() == [KEY]
