"""What KEDA's admission refuses is told of in its own words, and the pods serve all the same."""

from __future__ import annotations

from tests.cluster.pods.agents import Agent, specification
from tests.cluster.pods.kube import Kube, Manifest
from tests.cluster.pods.waiting import wait

PATIENCE_SECONDS = 300


def test_scaling_by_cpu_of_pods_that_ask_for_none_is_told_of_and_mended_by_asking(kube: Kube, team: str):
    agent = Agent(kube=kube, namespace=team, name="unbounded")

    def spec(**requests: str) -> Manifest:
        resources = {"requests": {"memory": "128Mi", **requests}}
        return specification(autoscaling={"provider": "KEDA", "maxReplicas": 2}, runtime={"resources": resources})

    agent.apply(spec())
    said = agent.wait_condition("Ready", reason="Forbidden", seconds=PATIENCE_SECONDS)
    assert "doesn't have the cpu request defined" in said["message"]
    serves = "its pod serves"
    wait(serves, lambda: agent.deployment()["status"].get("readyReplicas"), seconds=PATIENCE_SECONDS, why=agent.explain)
    agent.apply(spec(cpu="10m")).wait_ready(seconds=PATIENCE_SECONDS)
    agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
    kube.delete("AgentService", team, "unbounded")
