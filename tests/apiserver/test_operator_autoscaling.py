"""The number of pods follows the load: whoever decides it, a hand-over never moves it, and we never undo what an autoscaler did."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .operator_process import Audit, OperatorProcess, Workbench, eventually
from .test_operator_budget import spend

HPA = {"provider": "HPA", "minReplicas": 2, "maxReplicas": 10}
EXTERNAL = {"provider": "External"}


class Counts:
    """Every number of pods that the Deployment had since this object was made, as a watch tells it."""

    def __init__(self, at: Workbench) -> None:
        self._at = at
        self._since = at.get("Deployment", "agent")["metadata"]["resourceVersion"]

    def all(self) -> list[int]:
        query = f"?watch=1&fieldSelector=metadata.name=agent&resourceVersion={self._since}&timeoutSeconds=1"
        told = self._at.plane.kubectl("get", "--raw", self._at.path("Deployment") + query).stdout
        events = [json.loads(line) for line in told.splitlines() if line]
        assert {event["type"] for event in events} <= {"MODIFIED"}, events
        return [event["object"]["spec"]["replicas"] for event in events]


def count(at: Workbench) -> int:
    return at.get("Deployment", "agent")["spec"]["replicas"]


def owners_of_the_count(at: Workbench) -> set[str]:
    entries = at.get("Deployment", "agent")["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


def scale(at: Workbench, replicas: int) -> None:
    """As an autoscaler does it."""
    body = {"spec": {"replicas": replicas}}
    path = at.path("Deployment", "agent", "scale") + "?fieldManager=some-autoscaler"
    at.api.request("PATCH", path, body, content_type="application/merge-patch+json")


def autoscaler(at: Workbench) -> dict[str, Any] | None:
    return at.find("HorizontalPodAutoscaler", "agent")


def change(at: Workbench, audit: Audit, **spec: Any) -> None:
    at.patch("AgentService", "agent", {"spec": spec})
    at.serves()
    at.quiet(audit)


def test_a_new_agent_begins_with_the_minimum_and_an_autoscaler_of_the_declared_bounds(
    operator: OperatorProcess, at: Workbench
):
    at.agent(autoscaling={**HPA, "cpuUtilizationPercent": 60, "scaleDownStabilizationSeconds": 0})
    at.serves()
    assert count(at) == 2
    made = eventually("it is made", lambda: autoscaler(at))
    assert made["spec"] | {"behavior": None} == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "agent"},
        "minReplicas": 2,
        "maxReplicas": 10,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            }
        ],
        "behavior": None,
    }
    down = made["spec"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 0
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 120}]
    assert made["spec"]["behavior"].get("scaleUp", {}).get("selectPolicy", "Max") == "Max"
    assert at.list("PodDisruptionBudget", of="agent")


def test_runs_in_flight_need_a_custom_metrics_api(operator: OperatorProcess, at: Workbench, audit: Audit):
    at.agent(autoscaling={**HPA, "inFlightPerPod": 22, "cpuUtilizationPercent": 70})
    at.serves()
    say(at, AbleToScale="True", ScalingActive="True")
    assert "install an adapter" in at.settles("ScalingActive", "False", "CustomMetricsMissing")
    made = at.get("HorizontalPodAutoscaler", "agent")
    assert [metric["type"] for metric in made["spec"]["metrics"]] == ["Resource", "Pods"]
    at.quiet(audit)
    audit.forget()
    at.annotate("agent", touched="1")
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace) == []


HANDOVERS = [
    pytest.param({"replicas": 4}, {"autoscaling": HPA}, id="replicas-to-HPA"),
    pytest.param({"replicas": 4}, {"autoscaling": EXTERNAL}, id="replicas-to-External"),
    pytest.param({"autoscaling": HPA}, {"autoscaling": {**EXTERNAL, "minReplicas": None, "maxReplicas": None}}, id="HPA-to-External"),
    pytest.param({"autoscaling": EXTERNAL}, {"autoscaling": HPA}, id="External-to-HPA"),
    pytest.param({"autoscaling": HPA}, {"autoscaling": None, "replicas": 4}, id="HPA-to-replicas"),
    pytest.param({"autoscaling": EXTERNAL}, {"autoscaling": None, "replicas": 4}, id="External-to-replicas"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), HANDOVERS)
@pytest.mark.parametrize("applied", [False, True], ids=["created-by-us", "applied-by-us"])
def test_a_handover_never_moves_the_count(
    operator: OperatorProcess, at: Workbench, audit: Audit, before: dict[str, Any], after: dict[str, Any], applied: bool
):
    at.agent(**before)
    at.serves()
    if applied:  # what we created is owned in another way than what we applied
        change(at, audit, rollout={"progressDeadlineSeconds": 500})
    if "autoscaling" in before:
        scale(at, 4)
    at.quiet(audit)
    counts = Counts(at)
    change(at, audit, **after)
    seen = counts.all()
    assert seen or not ("replicas" in before or "replicas" in after), "the hand-over is a write"
    assert set(seen) <= {4}
    assert count(at) == 4
    assert ("agentservice-operator" in owners_of_the_count(at)) is ("replicas" in after)
    provider = (after["autoscaling"] or {}).get("provider")
    assert (autoscaler(at) is not None) is (provider == "HPA")


def test_there_and_back_again_and_once_more_never_moves_the_count(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(replicas=4)
    at.serves()
    counts = Counts(at)
    for _ in range(2):
        for autoscaling in (HPA, None, {"provider": "External"}, {**HPA, "minReplicas": 3}, None):
            change(at, audit, autoscaling=autoscaling)
    assert set(counts.all()) == {4}


def test_what_an_autoscaler_wrote_is_never_touched(
    operator: OperatorProcess, make_operator: Callable[..., OperatorProcess], at: Workbench, audit: Audit
):
    at.agent(autoscaling=HPA)
    at.serves()
    scale(at, 7)
    at.quiet(audit)
    counts = Counts(at)
    for number in range(100):
        at.annotate("agent", touched=str(number))
    at.quiet(audit)
    change(at, audit, rollout={"progressDeadlineSeconds": 500}, model={"settings": {"maxTokens": 100}})
    change(at, audit, replicas=3)
    at.patch("Deployment", "agent", {"spec": {"progressDeadlineSeconds": 77}})
    eventually("the edit is undone", lambda: at.get("Deployment", "agent")["spec"]["progressDeadlineSeconds"] == 500)
    operator.stop()
    operator.start()
    at.quiet(audit)
    assert set(counts.all()) == {7}
    scale(at, 5)
    at.quiet(audit)
    assert count(at) == 5


def test_no_pods_while_it_is_suspended_and_the_minimum_afterwards(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(autoscaling=HPA)
    at.serves()
    scale(at, 6)
    at.quiet(audit)
    change(at, audit, suspend=True)
    assert count(at) == 0
    assert autoscaler(at) is None
    assert at.settles("ScalingActive", "False", "Suspended")
    counts = Counts(at)
    change(at, audit, suspend=None)
    assert count(at) == 2
    assert set(counts.all()) == {2}
    assert "agentservice-operator" not in owners_of_the_count(at)


def test_scaling_active_is_what_the_autoscaler_says(operator: OperatorProcess, at: Workbench, audit: Audit):
    at.agent(replicas=1)
    at.serves()
    assert at.condition("ScalingActive")["status"] == "absent"
    change(at, audit, autoscaling=HPA)
    say(at, AbleToScale="True", ScalingActive="True")
    assert "without effect" not in at.settles("ScalingActive", "True", "Scaling")
    say(at, AbleToScale="True", ScalingActive="False")
    assert at.settles("ScalingActive", "False", "NotScaling") == "Because: words of the autoscaler"
    at.patch("AgentService", "agent", {"spec": {"replicas": 3}}, subresource="scale")
    assert "spec.replicas (3) is without effect" in at.settles("ScalingActive", "False", "NotScaling")
    change(at, audit, autoscaling={**EXTERNAL, "minReplicas": None, "maxReplicas": None})
    at.settles("ScalingActive", "True", "ScaledExternally")


def say(at: Workbench, **conditions: str) -> None:
    """Write the status of the autoscaler, as its controller does."""
    told = [
        {"type": kind, "status": status, "reason": "Because", "message": "words of the autoscaler"}
        for kind, status in conditions.items()
    ]
    status = {"currentReplicas": 2, "desiredReplicas": 2, "conditions": told}
    eventually("the autoscaler is there", lambda: autoscaler(at))
    at.patch("HorizontalPodAutoscaler", "agent", {"status": status}, subresource="status")


def test_near_the_end_of_a_budget_only_scale_in_goes_on_and_the_count_never_moves(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(autoscaling=HPA, budget={"daily": {"tokens": 1000}})
    at.serves()
    scale(at, 5)
    counts = Counts(at)

    def scale_up() -> dict[str, Any]:
        live = autoscaler(at)
        assert live is not None
        return live["spec"]["behavior"].get("scaleUp", {})

    spend(at, 950)
    at.settles("BudgetAvailable", "True", "BudgetWarning")
    assert scale_up().get("selectPolicy") != "Disabled"
    spend(at, 50)
    eventually("scale-out is off", lambda: scale_up()["selectPolicy"] == "Disabled")
    at.quiet(audit)
    at.patch("AgentService", "agent", {"spec": {"budget": {"daily": {"tokens": 5000}}}})
    eventually("scale-out is on again", lambda: scale_up().get("selectPolicy") != "Disabled")
    at.quiet(audit)
    assert set(counts.all()) <= {5}
