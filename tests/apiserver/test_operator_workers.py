"""Workers of a queue: pods that no Service leads to, whose number is declared or KEDA's, and that go when nobody asks for them any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.settings import REPOSITORY
from devcluster.standalone import StandaloneControlPlane

from . import fake_kubelet
from .fake_kubelet import kubelet
from .operator_process import Audit, OperatorProcess, Workbench, eventually
from .test_operator_autoscaling import change
from .test_operator_keda import install, uninstall

WORKERS = "agent-workers"
REDIS = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
QUEUE = {"enabled": True, "workers": {"replicas": 2}}
KEDA = {"provider": "KEDA", "maxReplicas": 10, "queuedTasksPerPod": 5}


def pods(at: Workbench, label: str) -> list[dict[str, Any]]:
    query = f"?labelSelector=agentservice.dev/{label}=agent"
    return at.api.request("GET", at.path("Pod") + query)["items"]


def count(at: Workbench) -> int:
    return at.get("Deployment", WORKERS)["spec"]["replicas"]


def scale(at: Workbench, replicas: int) -> None:
    """As KEDA does it."""
    path = at.path("Deployment", WORKERS, "scale") + "?fieldManager=keda"
    at.api.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type="application/merge-patch+json")


def test_workers_are_told_of_rolled_out_and_taken_away_with_what_they_mount(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(redis=REDIS, queue=QUEUE)
    with kubelet(at) as node:
        assert "workers: 2 of 2 pods" in at.settles("Ready", "True", "Available")
        assert at.get("Service", "agent")["spec"]["selector"] == {"agentservice.dev/name": "agent"}
        assert (len(pods(at, "name")), len(pods(at, "workers"))) == (1, 2)
        assert at.get("AgentService", "agent")["status"]["replicas"] == 1
        at.quiet(audit)
        audit.forget()
        operator.stop()
        operator.start()
        at.quiet(audit, seconds=3)
        assert audit.writes(namespace=at.namespace) == []

        def only_workers_crash(pod: dict[str, Any]) -> dict[str, Any]:
            works = "agentservice.dev/workers" in pod["metadata"]["labels"]
            return (fake_kubelet.crashing(1) if works else fake_kubelet.running)(pod)

        node.behave = only_workers_crash
        assert at.settles("Ready", "False", "CrashLooping").startswith("workers: ")
        node.behave = fake_kubelet.running
        at.settles("Ready", "True", "Available")

        before = at.config_map()
        change(at, audit, agent={"instructions": "Answer at length."}, rollout={"revisionHistoryLimit": 0})
        at.settles("Ready", "True", "Available")
        assert at.config_map() == at.config_map(WORKERS) != before
        eventually("the old configuration is gone", lambda: at.find("ConfigMap", before) is None)

        change(at, audit, queue={"workers": None})
        eventually("the workers are gone", lambda: at.find("Deployment", WORKERS) is None and not pods(at, "workers"))
        assert at.find("PodDisruptionBudget", WORKERS) is None
        assert "workers" not in at.settles("Ready", "True", "Available")
        change(at, audit, queue=QUEUE)
        eventually("they are back", lambda: len(pods(at, "workers")) == 2)
        at.delete("AgentService", "agent")
        eventually("all is gone", lambda: not at.list("Deployment", of="agent") and not at.list("Pod"))


def test_a_deployment_of_that_name_that_is_not_ours_is_left_alone(operator: OperatorProcess, at: Workbench):
    at.agent(WORKERS)
    at.serves(WORKERS)
    at.agent(redis=REDIS, queue=QUEUE)
    assert f"Deployment {WORKERS} belongs to AgentService {WORKERS}" in at.settles("Ready", "False", "Conflict")
    at.settles("Stalled", "True", "Conflict")


@pytest.fixture(scope="module")
def keda(control_plane: StandaloneControlPlane) -> Iterator[None]:
    install(control_plane)
    yield
    uninstall(control_plane)


def test_keda_takes_the_workers_from_none_to_many_and_back_and_a_handover_never_moves_them(
    operator: OperatorProcess, at: Workbench, audit: Audit, keda: None
):
    at.agent(redis=REDIS, queue=QUEUE)
    with kubelet(at):
        at.settles("Ready", "True", "Available")
        change(at, audit, autoscaling=KEDA)
        scaled = eventually("it is made", lambda: at.find("ScaledObject", WORKERS), seconds=90)
        assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 10)
        (trigger,) = scaled["spec"]["triggers"]
        uid = at.get("AgentService", "agent")["metadata"]["uid"]
        assert trigger["metadata"]["stream"] == f"agentservice:queue:{{{at.namespace}/agent/{uid}}}:tasks"
        name = trigger["authenticationRef"]["name"]  # of a kind of its own, which is found by itself
        access = eventually("its access is made", lambda: at.find("TriggerAuthentication", name), seconds=90)
        assert {entry["name"] for entry in access["spec"]["secretTargetRef"]} == {"redis"}
        assert count(at) == 2

        for replicas in (0, 4, 0):
            scale(at, replicas)
            eventually("they follow", lambda replicas=replicas: len(pods(at, "workers")) == replicas)
            at.settles("Ready", "True", "Available")
            assert count(at) == replicas
        told = {"type": "Ready", "status": "True", "reason": "x", "message": "words"}
        for name, status in (("agent", "True"), (WORKERS, "False")):
            body = {"status": {"conditions": [{**told, "status": status}]}}
            at.patch("ScaledObject", name, body, subresource="status")
        assert at.settles("ScalingActive", "False", "NotScaling") == "workers: x: words"

        scale(at, 5)
        at.quiet(audit)
        at.patch("ScaledObject", WORKERS, {"metadata": {"finalizers": ["finalizer.keda.sh"]}})
        change(at, audit, autoscaling=None, queue={"workers": {"replicas": 5}})
        assert "KEDA has let go" in at.settles("Ready", "False", "WaitingForDeletion")
        scale(at, 6)
        at.quiet(audit)
        assert count(at) == 6, "KEDA may write until it has let go"
        at.patch("ScaledObject", WORKERS, {"metadata": {"finalizers": None}})
        eventually("the declared number is there", lambda: count(at) == 5)
        at.settles("Ready", "True", "Available")
        eventually(
            "nothing of KEDA's is left", lambda: not at.list("ScaledObject") and not at.list("TriggerAuthentication")
        )


def test_the_example_begins_with_the_declared_worker_and_is_scaled_by_keda(
    operator: OperatorProcess, at: Workbench, keda: None
):
    at.kubectl("apply", "--filename", str(REPOSITORY / "examples" / "workers.yaml"))
    at.serves("workers")
    eventually("the ScaledObject is made", lambda: at.find("ScaledObject", "workers-workers"), seconds=90)
    assert at.get("Deployment", "workers-workers")["spec"]["replicas"] == 1
