"""KEDA scales an agent by its runs under way, which a Prometheus tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.pods.agents import Agent, specification
from tests.cluster.pods.kube import Kube, secret
from tests.cluster.pods.load_generator import Caller
from tests.cluster.scraper import Prometheus, chart_monitors

from devcluster import images as built_images
from devcluster import install, state
from devcluster.cluster import Cluster
from devcluster.native import NativeCluster
from devcluster.progress import Progress
from devcluster.promtool import prometheus as program
from devcluster.settings import read_settings

from .watched import Counts

MOST = 3
PER_POD = 2
PATIENCE_SECONDS = 300


@pytest.fixture
def prometheus(cluster: Cluster, kube: Kube, team: str, tmp_path: Path) -> Iterator[Prometheus]:
    """One that scrapes the agent's pods, and that the operator's chart names."""
    known = state.read(cluster.run) if isinstance(cluster, NativeCluster) else None
    if known is None:
        pytest.skip("a cluster that is not made of our own nodes does not reach this machine")
    settings, progress = read_settings(), Progress()
    images = built_images.built(settings, progress=progress)
    found = Prometheus(
        program(settings, progress=progress),
        kube=kube,
        monitors=chart_monitors(cluster),
        namespace=team,
        directory=tmp_path,
        address=known.plan.host,
    )
    with found:
        install.operator(cluster, images, wait=True, values=[f"keda.prometheusAddress={found.url}"])
        yield found
    install.operator(cluster, images, wait=True)


def test_runs_under_way_decide_how_many_pods_there_are(prometheus: Prometheus, kube: Kube, team: str, caller: Caller):
    kube.apply(secret(team, "model", **{"api-key": "not-a-real-key"}))
    spec = specification(
        agent={"limits": {"runTimeoutSeconds": 30}},
        autoscaling={
            "provider": "KEDA",
            "minReplicas": 1,
            "maxReplicas": MOST,
            "inFlightPerPod": PER_POD,
            "scaleDownStabilizationSeconds": 3600,
        },
    )
    spec["model"] = {
        "name": "openai-chat:stream-20-200",
        "baseURL": f"http://model-server.{team}.svc/v1",
        "apiKey": {"secretKeyRef": {"name": "model", "key": "api-key"}},
    }
    agent = Agent(kube=kube, namespace=team, name="busy").apply(spec).wait_ready(seconds=PATIENCE_SECONDS)
    prometheus.catch_up()
    agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
    (trigger,) = (kube.get("ScaledObject", team, "busy") or {})["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    with Counts(kube, team, "busy") as counts, caller.load(agent.url, streams=MOST * PER_POD) as load:
        assert counts.last == 1
        counts.wait_for(MOST, seconds=PATIENCE_SECONDS)
        assert not load.stop().failed, load.report
    kube.delete("AgentService", team, "busy")
