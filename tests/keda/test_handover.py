"""KEDA scales an agent with its load, and whoever decides after it or before it, the number of pods never moves by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.pods.agents import Agent, specification
from tests.cluster.pods.kube import Kube, Manifest, condition
from tests.cluster.pods.load_generator import Caller
from tests.cluster.pods.waiting import wait

from .watched import Counts, Watched

MOST = 3
PATIENCE_SECONDS = 300
"""For KEDA and autoscalers to act: they look every few seconds, at pods that a busy machine has to start first."""
BOUNDS = {
    "minReplicas": 1,
    "maxReplicas": MOST,
    "cpuUtilizationPercent": 40,
    "scaleDownStabilizationSeconds": 3600,  # nothing scales in while this test runs
}
KEDA = {"provider": "KEDA", **BOUNDS}
HPA = {"provider": "HPA", **BOUNDS}
EXTERNAL = {"provider": "External"}


def spec(autoscaling: Manifest | None) -> Manifest:
    """Little CPU is much here, so that the load of a test fills all pods."""
    runtime = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}
    if autoscaling is None:
        return specification(replicas=MOST, runtime=runtime)
    return specification(autoscaling=autoscaling, runtime=runtime)


class Elastic:
    """The agent, and the autoscalers that there are for it."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.agent = Agent(kube=kube, namespace=namespace, name="elastic")
        self._kube, self._namespace = kube, namespace

    def decided_by(self, autoscaling: Manifest | None) -> None:
        """Change who decides, and wait until nobody else does and the new one acts."""
        self.agent.apply(spec(autoscaling))
        provider = (autoscaling or {}).get("provider")

        def is_handed_over() -> bool:
            scaled = self._kube.get("ScaledObject", self._namespace, "elastic")
            autoscalers = self._kube.list("HorizontalPodAutoscaler", self._namespace)
            names = [live["metadata"]["name"] for live in autoscalers]
            expected = {"KEDA": ["keda-hpa-elastic"], "HPA": ["elastic"]}.get(provider or "", [])
            acting = all(condition(live, "ScalingActive").get("status") == "True" for live in autoscalers)
            return (scaled is not None) is (provider == "KEDA") and names == expected and acting

        wait(f"{provider} decides, and no other", is_handed_over, seconds=PATIENCE_SECONDS, why=self.explain)
        if provider in {"HPA", "KEDA"}:
            self.agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)
        self.agent.wait_ready()

    def scaled_object(self) -> Manifest:
        found = self._kube.get("ScaledObject", self._namespace, "elastic")
        assert found is not None
        return found

    def explain(self) -> str:
        asked = ("-n", self._namespace, "get", "scaledobjects,hpa,deployments,events")
        return f"{self.agent.explain()}\n{self._kube.kubectl(*asked, check=False)}"


@pytest.fixture(scope="module")
def elastic(kube: Kube, team: str) -> Iterator[Elastic]:
    """A new agent of which KEDA decides from the beginning, whose admission asks for its Deployment."""
    elastic = Elastic(kube, team)
    elastic.decided_by(KEDA)
    yield elastic
    if kube.get("AgentService", team, "elastic") is not None:
        kube.delete("AgentService", team, "elastic")


def test_keda_scales_an_agent_out_with_its_load(elastic: Elastic, kube: Kube, team: str, caller: Caller):
    with Counts(kube, team, "elastic") as counts:
        assert counts.last == 1
        with caller.load(elastic.agent.url, rate=20) as load:
            counts.wait_for(MOST, seconds=PATIENCE_SECONDS)
        assert not load.report.failed, load.report
        given = counts.all()
    owners = {owner for count in given if count.count > 1 for owner in count.owners}
    assert not any(owner.startswith("agentservice-operator") for owner in owners), owners
    elastic.agent.wait_ready().wait_settled()


def test_no_handover_moves_the_count(elastic: Elastic, kube: Kube, team: str):
    with Counts(kube, team, "elastic") as counts, Watched(kube, "AgentService", team, "elastic") as told:
        assert counts.last == MOST
        for autoscaling in (HPA, KEDA, EXTERNAL, KEDA, None, KEDA):
            elastic.decided_by(autoscaling)
            assert ("agentservice-operator" in counts.all()[-1].owners) is (autoscaling is None)
        assert counts.numbers() == [MOST]
        assert "Forbidden" not in {state.reason("Ready") for state in told.all()}, (
            "KEDA's admission is behind, not against it"
        )


def test_a_paused_scaled_object_is_told_of_and_one_that_was_deleted_is_made_anew(
    elastic: Elastic, kube: Kube, team: str
):
    def paused(value: str | None) -> None:
        kube.patch(
            "ScaledObject", team, "elastic", {"metadata": {"annotations": {"autoscaling.keda.sh/paused": value}}}
        )

    with Counts(kube, team, "elastic") as counts:
        paused("true")
        said = elastic.agent.wait_condition("ScalingActive", reason="NotScaling", seconds=PATIENCE_SECONDS)
        assert "paused" in said["message"]
        paused(None)
        elastic.agent.wait_condition("ScalingActive", reason="Scaling", seconds=PATIENCE_SECONDS)

        before = elastic.scaled_object()["metadata"]["uid"]
        kube.delete("ScaledObject", team, "elastic")

        def is_new() -> bool:
            live = kube.get("ScaledObject", team, "elastic")
            return live is not None and live["metadata"]["uid"] != before

        wait("it is made anew", is_new, seconds=PATIENCE_SECONDS, why=elastic.explain)
        elastic.decided_by(KEDA)
        assert counts.numbers() == [MOST]


def test_an_agent_that_is_deleted_takes_all_of_it_away(elastic: Elastic, kube: Kube, team: str):
    kube.delete("AgentService", team, "elastic")

    def is_gone() -> bool:
        kinds = ("ScaledObject", "HorizontalPodAutoscaler", "Deployment")
        names = [live["metadata"]["name"] for kind in kinds for live in kube.list(kind, team)]
        return not any("elastic" in name for name in names)

    said = ("-n", team, "get", "scaledobjects,hpa,deployments", "-o", "yaml")
    wait("nothing of it is left", is_gone, seconds=PATIENCE_SECONDS, why=lambda: kube.kubectl(*said))
