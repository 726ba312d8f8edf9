"""Ready tells the truth through rollouts, losses and faults; kubectl wait and kstatus conclude the same."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import pytest

from devcluster import components
from devcluster.progress import Progress
from devcluster.settings import read_settings

from . import fake_kubelet
from .fake_kubelet import by_revision, kubelet
from .operator_process import OperatorProcess, Workbench, eventually

BROKEN = {"runtime": {"image": "registry.example/broken:1"}}
"""A change that makes a new revision."""


@pytest.fixture(scope="session")
def kstatus():
    """What Flux, Helm and kpt conclude from an object, by their own code."""
    built = components.cached(read_settings(), progress=Progress())
    assert built is not None

    def judge(at: Workbench, name: str = "agent") -> str:
        done = subprocess.run(
            [built.binary, "kstatus", at.namespace, "agentservice.dev", "v1alpha1", "agentservices", name],
            env={**os.environ, "KUBECONFIG": str(at.plane.kubeconfig)},
            capture_output=True,
            text=True,
            check=True,
        )
        return str(json.loads(done.stdout)["status"])

    return judge


def revision(at: Workbench) -> str:
    return str(at.get("AgentService", "agent")["status"]["revision"])


def ready_agent(at: Workbench, **spec: object) -> str:
    """An agent all of whose pods serve; its revision."""
    at.agent(**spec)
    at.settles("Ready", "True")
    return revision(at)


def test_an_object_that_nobody_reconciled_is_in_progress(at: Workbench, kstatus):
    """No operator yet: the tests that need one come after this and start it."""
    at.agent()
    assert kstatus(at) == "InProgress"
    assert at.kubectl("wait", "ags/agent", "--for=condition=Ready", "--timeout=1s", check=False).returncode != 0


def test_a_new_agent_becomes_ready_when_all_its_pods_serve(operator: OperatorProcess, at: Workbench, kstatus):
    with kubelet(at, fake_kubelet.creating) as node:
        at.agent(replicas=3)
        at.settles("Ready", "False", "Progressing")
        assert at.condition("Reconciling")["status"] == "True"
        assert kstatus(at) == "InProgress"
        node.behave = fake_kubelet.starting
        at.settles("Ready", "False", "Progressing")
        node.behave = fake_kubelet.running
        assert at.settles("Ready", "True", "Available").startswith("3 of 3 pods serve revision")
        assert at.condition("Reconciling")["status"] == at.condition("Stalled")["status"] == "absent"
        assert kstatus(at) == "Current"
        at.kubectl("wait", "ags/agent", "--for=condition=Ready", "--timeout=120s")
        status = at.get("AgentService", "agent")["status"]
        assert (status["replicas"], status["readyReplicas"]) == (3, 3)
        line = at.kubectl("get", "ags", "agent", "--no-headers").stdout
        assert "True" in line and "Available" in line and "test" in line


def test_a_rollout_is_not_ready_until_no_old_pod_is_left(operator: OperatorProcess, at: Workbench, kstatus):
    with kubelet(at) as node:
        old = ready_agent(at, replicas=2)
        node.behave = by_revision(fake_kubelet.starting, old=old)
        at.patch("AgentService", "agent", {"spec": {"agent": {"instructions": "Answer at length."}}})
        at.settles("Ready", "False", "Progressing")
        assert kstatus(at) == "InProgress"
        assert revision(at) != old
        waiting = subprocess.Popen(
            [*kubectl(at), "wait", "ags/agent", "--for=condition=Ready", "--timeout=60s"], stdout=subprocess.DEVNULL
        )
        time.sleep(1)
        assert waiting.poll() is None, "kubectl wait believed the old generation"
        assert at.get("Deployment", "agent")["status"]["availableReplicas"] == 2, "the old pods serve on"
        node.behave = fake_kubelet.running
        at.settles("Ready", "True", "Available")
        assert waiting.wait(timeout=30) == 0
        assert kstatus(at) == "Current"
        assert {p["metadata"]["labels"]["agentservice.dev/revision"] for p in at.list("Pod", of="agent")} == {
            revision(at)
        }


def kubectl(at: Workbench) -> list[str]:
    built = components.cached(read_settings(), progress=Progress())
    assert built is not None
    return [str(built.directory / "kubectl"), f"--kubeconfig={at.plane.kubeconfig}", f"--namespace={at.namespace}"]


FAULTS = {
    "an image that cannot be pulled": (
        fake_kubelet.image_missing,
        "ImagePullFailed",
        ("registry.example/broken:1", "runtime.image"),
        "InProgress",
    ),
    "a container that crashes": (
        fake_kubelet.crashing(1, message="ImportError: no module named acme"),
        "CrashLooping",
        ("exit code 1", "ImportError", "kubectl -n", "--previous"),
        "InProgress",
    ),
    "a configuration that the runtime refuses": (
        fake_kubelet.crashing(78, message="agent.entrypoint: acme.support has no attribute agent"),
        "ConfigurationRejected",
        ("acme.support has no attribute agent",),
        "Failed",
    ),
    "a Secret that is missing": (
        fake_kubelet.secret_missing("db"),
        "SecretNotFound",
        ('secret "db" not found', "create it"),
        "InProgress",
    ),
    "a key that is missing": (
        fake_kubelet.secret_key_missing("db", "url"),
        "SecretNotFound",
        ("key url", "/db", "create it"),
        "InProgress",
    ),
    "no node with room": (
        fake_kubelet.unschedulable,
        "Unschedulable",
        ("Insufficient memory",),
        "InProgress",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_revision_names_the_cause_while_the_old_pods_serve_on_and_mended_it_goes_ready_by_itself(
    operator: OperatorProcess, at: Workbench, kstatus, fault: str
):
    behaviour, reason, words, conclusion = FAULTS[fault]
    env = [{"name": "URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]
    with kubelet(at) as node:
        old = ready_agent(at, replicas=2, runtime={"env": env})
        node.behave = by_revision(behaviour, old=old)
        at.patch("AgentService", "agent", {"spec": BROKEN})
        message = at.settles("Ready", "False", reason)
        for word in words:
            assert word in message
        abnormal = "Stalled" if conclusion == "Failed" else "Reconciling"
        assert at.condition(abnormal)["reason"] == reason
        assert at.condition("SecretsReady")["status"] == (
            "False" if reason == "SecretNotFound" else at.condition("SecretsReady")["status"]
        )
        assert kstatus(at) == conclusion
        assert at.get("Deployment", "agent")["status"]["availableReplicas"] == 2
        warnings = [e for e in at.list("Event") if e["reason"] == reason]
        eventually("a warning", lambda: warnings or [e for e in at.list("Event") if e["reason"] == reason])
        node.behave = fake_kubelet.running
        at.settles("Ready", "True", "Available")
        assert at.condition("SecretsReady")["status"] == "True"
        assert kstatus(at) == "Current"


def test_a_secret_that_cannot_be_mounted_is_named_and_stays_so_until_the_pod_starts(
    operator: OperatorProcess, at: Workbench
):
    key = {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    with kubelet(at, fake_kubelet.creating) as node:
        at.agent(model={"name": "openai-chat:gpt-4o-mini", "apiKey": key})
        assert at.settles("SecretsReady", "Unknown", "NoPods")
        (pod,) = eventually("a pod", lambda: at.list("Pod", of="agent"))
        node.cannot_mount(pod, 'MountVolume.SetUp failed for volume "secrets" : secret "openai" not found')
        message = at.settles("SecretsReady", "False", "SecretNotFound")
        assert 'secret "openai" not found' in message and "create it" in message
        assert at.settles("Ready", "False", "SecretNotFound").startswith(message.split(":")[0])
        for event in at.list("Event"):
            if event["reason"] == "FailedMount":
                at.delete(
                    "Event", event["metadata"]["name"]
                )  # the API server forgets after an hour, the pod still waits
        time.sleep(1)
        assert at.condition("SecretsReady")["reason"] == "SecretNotFound"
        node.behave = fake_kubelet.running
        at.settles("SecretsReady", "True", "Mounted")
        at.settles("Ready", "True")


def test_without_progress_for_the_deadline_it_is_stalled(operator: OperatorProcess, at: Workbench, kstatus):
    with kubelet(at, fake_kubelet.starting) as node:
        at.agent(rollout={"progressDeadlineSeconds": 10})
        message = at.settles("Ready", "False", "ProgressDeadlineExceeded", seconds=60)
        assert "progressDeadlineSeconds" in message
        assert at.condition("Stalled")["status"] == "True"
        assert kstatus(at) == "Failed"
        node.behave = fake_kubelet.running
        at.settles("Ready", "True")
        assert kstatus(at) == "Current"


def test_scaling_out_a_complete_revision_keeps_it_ready_and_kubectl_scale_works(
    operator: OperatorProcess, at: Workbench
):
    with kubelet(at) as node:
        ready_agent(at, replicas=2)
        first = {pod["metadata"]["name"] for pod in at.list("Pod", of="agent")}
        node.behave = lambda pod: (fake_kubelet.running if pod["metadata"]["name"] in first else fake_kubelet.starting)(
            pod
        )
        seen: set[str] = set()
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(0.05):
                conditions = at.get("AgentService", "agent")["status"]["conditions"]
                seen.update(c["status"] for c in conditions if c["type"] == "Ready")

        watcher = threading.Thread(target=look)
        watcher.start()
        at.kubectl("scale", "ags/agent", "--replicas=4")
        eventually("pods start", lambda: len(at.list("Pod", of="agent")) == 4)
        message = at.settles("Ready", "True", "Available")
        eventually("it says that pods start", lambda: at.condition("Ready")["message"].startswith("2 of 4"))
        node.behave = fake_kubelet.running
        eventually("all serve", lambda: at.condition("Ready")["message"].startswith("4 of 4"))
        at.kubectl("scale", "ags/agent", "--replicas=1")
        eventually("one is left", lambda: at.condition("Ready")["message"].startswith("1 of 1"))
        stop.set()
        watcher.join()
        assert message and seen == {"True"}


def test_a_pod_that_is_lost_takes_readiness_away_until_its_replacement_serves(operator: OperatorProcess, at: Workbench):
    with kubelet(at) as node:
        ready_agent(at, replicas=2)
        serving = {pod["metadata"]["name"] for pod in at.list("Pod", of="agent")}
        node.behave = lambda pod: (
            fake_kubelet.running if pod["metadata"]["name"] in serving else fake_kubelet.starting
        )(pod)
        at.delete("Pod", sorted(serving)[0])
        assert at.settles("Ready", "False").startswith("1 of 2 pods serve")
        node.behave = fake_kubelet.running
        at.settles("Ready", "True")


def test_within_max_unavailable_it_stays_ready(operator: OperatorProcess, at: Workbench):
    with kubelet(at) as node:
        ready_agent(at, replicas=3, rollout={"maxUnavailable": 1})
        serving = {pod["metadata"]["name"] for pod in at.list("Pod", of="agent")}
        node.behave = lambda pod: (
            fake_kubelet.running if pod["metadata"]["name"] in serving else fake_kubelet.starting
        )(pod)
        at.delete("Pod", sorted(serving)[0])
        eventually("2 of 3 serve", lambda: at.condition("Ready")["message"].startswith("2 of 3"))
        assert at.condition("Ready")["status"] == "True"


def test_a_quota_on_pods_is_named_and_when_it_is_lifted_the_agent_goes_on(operator: OperatorProcess, at: Workbench):
    quota = at.create("ResourceQuota", {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "0"}}})
    eventually("the quota counts", lambda: at.get("ResourceQuota", "tight")["status"].get("hard"))
    with kubelet(at):
        at.agent()
        message = at.settles("Ready", "False", "PodsRefused")
        assert "exceeded quota: tight" in message and "raise the quota" in message
        at.delete("ResourceQuota", quota["metadata"]["name"])
        # the ReplicaSet controller tries again by itself, ever more slowly
        at.settles("Ready", "True", seconds=60)


def test_suspended_it_has_no_pods_and_is_ready(operator: OperatorProcess, at: Workbench, kstatus):
    with kubelet(at):
        ready_agent(at, replicas=2)
        at.patch("AgentService", "agent", {"spec": {"suspend": True}})
        at.settles("Ready", "True", "Suspended")
        assert at.list("Pod", of="agent") == []
        assert kstatus(at) == "Current"
        at.patch("AgentService", "agent", {"spec": {"suspend": False}})
        assert at.settles("Ready", "True", "Available").startswith("2 of 2")
