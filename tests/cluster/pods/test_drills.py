"""An agent whose pods follow the load, while Git, an operator's upgrade, a budget and a new key go on: nobody fights, nothing is lost.

AGENTSERVICE_DEEP=1 goes on for ten minutes and sees the last pod but one go; else it ends with the first.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from devcluster import install
from devcluster.cluster import Cluster

from .agents import Agent, specification
from .kube import Kube, Manifest, secret
from .load_generator import Caller, Report
from .test_secrets import with_key
from .waiting import wait

DEEP = bool(os.environ.get("AGENTSERVICE_DEEP"))
MOST = 4
RECONCILES = 100
STREAMS = 4
GIT = "git"
PATIENCE_SECONDS = 240
"""For the HorizontalPodAutoscaler to act: it measures every few seconds, of pods that a busy machine has to start first."""


def manifest(namespace: str, model_url: str, *, deadline: int = 600) -> Manifest:
    """What Git says. Little CPU is much here, so that the load of a test fills four pods, and a twentieth of it less than one."""
    spec = specification(
        model="",
        agent={"limits": {"runTimeoutSeconds": 30}},
        autoscaling={
            "minReplicas": 1,
            "maxReplicas": MOST,
            "cpuUtilizationPercent": 40,
            "scaleDownStabilizationSeconds": 0,
        },
        budget={"daily": {"tokens": 100_000_000}},
        rollout={"progressDeadlineSeconds": deadline},
        runtime={"concurrencyPerPod": 200, "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
    )
    del spec["replicas"]
    spec["model"] = with_key("elastic", model="stream-10-100", model_url=model_url)
    return {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"name": "elastic", "namespace": namespace},
        "spec": spec,
    }


class Repository:
    """A GitOps controller's view: commits are applied on the server's side, and asked for in dry runs."""

    def __init__(self, kube: Kube, content: Manifest) -> None:
        self._kube = kube
        self._content = content
        self.asked = 0

    def commit(self, content: Manifest) -> None:
        self._content = content
        self._apply("")

    def differences(self) -> dict[str, tuple[object, object]]:
        """What an apply of Git would change, by member: now, and then."""
        before = self._declared(self._live())
        would_be = self._declared(self._apply("&dryRun=All"))
        self.asked += 1
        return {key: (before[key], would_be[key]) for key in before if before[key] != would_be[key]}

    def _apply(self, query: str) -> Manifest:
        metadata = self._content["metadata"]
        path = f"{self._kube.path('AgentService', metadata['namespace'])}/{metadata['name']}?fieldManager={GIT}&force=true{query}"
        said = self._kube.request("PATCH", path, body=self._content, content_type="application/apply-patch+yaml")
        return json.loads(said)

    def _live(self) -> Manifest:
        metadata = self._content["metadata"]
        live = self._kube.get("AgentService", metadata["namespace"], metadata["name"])
        assert live is not None
        return live

    @staticmethod
    def _declared(live: Manifest) -> dict[str, object]:
        metadata = live["metadata"]
        kept = ("labels", "annotations", "finalizers", "ownerReferences", "generation")
        return {"spec": live["spec"], **{key: metadata.get(key) for key in kept}}


class Count:
    """The number of pods that the Deployment is given, and by whom."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.seen: list[int] = []

    def look(self) -> int:
        live = self._agent.deployment()
        now = live["spec"]["replicas"]
        if self.seen and now != self.seen[-1]:
            owners = {e["manager"] for e in live["metadata"]["managedFields"] if "f:replicas" in e["fieldsV1"].get("f:spec", {})}  # fmt: skip
            assert not any(owner.startswith("agentservice-operator") for owner in owners), owners
        if not self.seen or now != self.seen[-1]:
            self.seen.append(now)
        return now


@pytest.fixture
def repository(kube: Kube, team: str, model_url: str) -> Iterator[Repository]:
    kube.apply(secret(team, "elastic", **{"api-key": f"sk-{uuid.uuid4().hex}"}))
    made = Repository(kube, manifest(team, model_url))
    made.commit(manifest(team, model_url))
    yield made
    kube.delete("AgentService", team, "elastic")


def upgrade(cluster: Cluster) -> subprocess.Popen[str]:
    """An upgrade of the operator by Helm: new pods take the old ones' places."""
    client = install.Client(cluster=cluster)
    chart = str(install.REPOSITORY / "charts" / install.RELEASE)
    command = [
        *(str(cluster.helm()), "upgrade", install.RELEASE, chart, "--namespace", install.NAMESPACE, "--reuse-values"),
        *("--set=resyncSeconds=599", "--wait", "--timeout=300s"),
    ]
    return subprocess.Popen(
        command, env=client.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_pods_follow_the_load_and_git_never_finds_a_difference_whatever_goes_on_meanwhile(
    repository: Repository, kube: Kube, cluster: Cluster, team: str, caller: Caller, model_url: str
):
    agent = Agent(kube=kube, namespace=team, name="elastic").wait_ready()
    count, touched, began = Count(agent), 0, time.monotonic()
    reports: list[Report] = []

    def goes_on() -> int:
        """One look of everybody; return the number of pods."""
        nonlocal touched
        touched += 1
        agent.patch({"metadata": {"annotations": {"agentservice.dev/touched": str(touched)}}})
        assert repository.differences() == {}
        return count.look()

    def until(what: str, reached: Callable[[int], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
        wait(what, lambda: reached(goes_on()), seconds=seconds, why=agent.explain)

    with caller.load(agent.url, rate=18, streams=STREAMS) as load:
        kube.apply(secret(team, "elastic", **{"api-key": f"sk-{uuid.uuid4().hex}"}))
        until("the load has all the pods that are allowed", lambda pods: pods == MOST)
        upgraded = upgrade(cluster)
        repository.commit(manifest(team, model_url, deadline=599))
        until("the new operator is there", lambda _: upgraded.poll() is not None)
        assert upgraded.returncode == 0, upgraded.communicate()[0]
        until("the operator has looked often", lambda _: touched >= RECONCILES)
        wait("all pods serve", agent.is_ready, seconds=120, why=agent.explain)
        if DEEP:
            until("half of the time is over", lambda _: time.monotonic() - began > 300, seconds=600)
        reports.append(load.stop())
    assert agent.deployment()["spec"]["progressDeadlineSeconds"] == 599
    assert count.seen == sorted(count.seen), f"up only, under load: {count.seen}"

    with caller.load(agent.url, rate=0.5, streams=1) as load:
        few = 1 if DEEP else MOST - 1
        until("the load is gone, and so are pods", lambda pods: pods <= few, seconds=PATIENCE_SECONDS * 3)
        agent.wait_settled()
        if DEEP:
            until("ten minutes are over", lambda _: time.monotonic() - began > 600, seconds=900)
        reports.append(load.stop())
    print(f"pods: {count.seen}; {touched} looks, {repository.asked} dry runs; {reports}")
    assert [report.failed.total() for report in reports] == [0, 0], reports
    assert all(report.streams for report in reports)
    live = agent.live()
    assert "replicas" not in {key for e in live["metadata"]["managedFields"] for key in e["fieldsV1"].get("f:spec", {})}
    assert live["status"]["budget"]["daily"]["tokens"] > 0
