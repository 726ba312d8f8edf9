"""When more pods may come, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentservice_api import Reason
from agentservice_operator.manifest import ChildKey, Manifest, Owner, child_key
from agentservice_operator.render import Platform, hold_back, let_go, render
from agentservice_operator.render.autoscaler import scales_out
from agentservice_operator.rollout import Observation, Verdict
from agentservice_operator.scaling import is_held_back, leaves_keda, scaled_by_keda, scaling_active

from .builders import UID, agent_service, child, rendered
from .test_budget import spent

SPEC: dict[str, Any] = {"autoscaling": {"maxReplicas": 9}, "budget": {"daily": {"tokens": 1000}}}
AGENT = agent_service(**SPEC)
FREE, HELD = (child(each, "HorizontalPodAutoscaler") for each in (rendered(**SPEC), hold_back(rendered(**SPEC))))


@pytest.mark.parametrize(
    ("tokens", "was_off", "is_off"),
    [(970, False, False), (980, False, True), (980, True, True), (900, True, True), (890, True, False)],
)
def test_scale_out_is_off_near_the_end_of_a_budget_and_not_on_again_at_once(
    tokens: int, was_off: bool, is_off: bool
) -> None:
    assert is_held_back(spent(tokens), HELD if was_off else FREE) is is_off


def test_scale_out_is_off_before_there_is_an_autoscaler_and_as_it_was_while_nobody_knows() -> None:
    assert is_held_back(spent(1000), None)
    unknown = replace(spent(0), windows=())
    assert is_held_back(unknown, HELD)
    assert not is_held_back(unknown, FREE)


def test_a_budget_that_does_not_refuse_and_none_at_all_hold_nothing_back() -> None:
    assert not is_held_back(spent(5000, budget={"enforcement": "Soft", "daily": {"tokens": 1000}}), HELD)
    assert not is_held_back(None, HELD)


KINDS = pytest.mark.parametrize(("provider", "kind"), [("HPA", "HorizontalPodAutoscaler"), ("KEDA", "ScaledObject")])
HEALTHY = {"HPA": {"AbleToScale": "True", "ScalingActive": "True"}, "KEDA": {"Ready": "True", "HPAActive": "True"}}


def verdict(spec: dict[str, Any], autoscaler: Manifest | None, **observed: Any) -> Verdict:
    has_prometheus = observed.pop("has_prometheus", True)
    seen = Observation(autoscaler=autoscaler, **observed)
    found = scaling_active(agent_service(**spec).spec, seen, has_prometheus=has_prometheus)
    assert found is not None
    return found


def saying(autoscaler: Manifest, conditions: dict[str, str], reason: str = "Why") -> Manifest:
    told = [
        {"type": kind, "status": status, "reason": reason, "message": "words"} for kind, status in conditions.items()
    ]
    return {**autoscaler, "status": {"conditions": told}}


@KINDS
def test_an_autoscaler_that_is_held_back_still_scales_in_and_says_why_not_out(provider: str, kind: str) -> None:
    spec = {**SPEC, "autoscaling": {"provider": provider, "maxReplicas": 9}}
    free, held = child(rendered(**spec), kind), child(hold_back(rendered(**spec)), kind)

    def behavior(autoscaler: Manifest) -> Manifest:
        place = autoscaler["spec"]
        return (place if provider == "HPA" else place["advanced"]["horizontalPodAutoscalerConfig"])["behavior"]

    assert scales_out(free)
    assert not scales_out(held)
    assert behavior(held) == {**behavior(free), "scaleUp": {"selectPolicy": "Disabled"}}
    assert {held["spec"].get("maxReplicas"), held["spec"].get("maxReplicaCount")} == {9, None}
    assert held["metadata"]["annotations"] != free["metadata"]["annotations"], "it has to be written"
    assert is_held_back(spent(980), free)
    assert is_held_back(spent(900), held)
    off, on = (verdict(spec, saying(each, HEALTHY[provider])) for each in (held, free))
    assert (off.status, off.reason) == ("False", Reason.SCALE_OUT_OFF)
    assert (on.status, on.reason) == ("True", Reason.SCALING)


KEDA: dict[str, Any] = {"autoscaling": {"provider": "KEDA", "minReplicas": 2, "maxReplicas": 9}}
SCALED = child(rendered(**KEDA), "ScaledObject")


def test_a_scaled_object_names_the_deployment_its_bounds_and_cpu_where_nothing_else_is_asked_for() -> None:
    assert SCALED["spec"] == {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support"},
        "minReplicaCount": 2,
        "maxReplicaCount": 9,
        "advanced": {
            "restoreToOriginalReplicaCount": False,
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleDown": {
                        "stabilizationWindowSeconds": 300,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
                    }
                }
            },
        },
        "triggers": [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}],
    }
    assert "replicas" not in child(rendered(**KEDA), "Deployment")["spec"]
    assert [c["kind"] for c in rendered(**KEDA, suspend=True).children if c["kind"] == "ScaledObject"] == []


IN_FLIGHT: dict[str, Any] = {"inFlightPerPod": 22, "maxReplicas": 9}


@pytest.mark.parametrize("cpu", [None, 60])
def test_runs_in_flight_are_scaled_by_alone_or_beside_cpu(cpu: int | None) -> None:
    more = {} if cpu is None else {"cpuUtilizationPercent": cpu}
    autoscaler = child(rendered(autoscaling={**IN_FLIGHT, **more}), "HorizontalPodAutoscaler")
    *rest, last = autoscaler["spec"]["metrics"]
    target = {"type": "AverageValue", "averageValue": "22"}
    assert last == {"type": "Pods", "pods": {"metric": {"name": "pydantic_ai_active_requests"}, "target": target}}
    assert [metric["resource"]["target"]["averageUtilization"] for metric in rest] == ([] if cpu is None else [60])

    resource = agent_service(autoscaling={**IN_FLIGHT, **more, "provider": "KEDA"})
    with_one = render(resource, platform=Platform(runtime_image="x", prometheus="http://p:9090"))
    *rest, last = child(with_one, "ScaledObject")["spec"]["triggers"]
    assert (last["type"], last["metricType"]) == ("prometheus", "AverageValue")
    assert last["metadata"] == {
        "serverAddress": "http://p:9090",
        "query": 'sum(pydantic_ai_active_requests{namespace="team-a",agent_name="support"})',
        "threshold": "22",
        "ignoreNullValues": "false",
    }
    assert [trigger["metadata"]["value"] for trigger in rest] == ([] if cpu is None else ["60"])


def test_without_a_prometheus_that_is_said_and_the_rest_still_scales() -> None:
    only = {"autoscaling": {**IN_FLIGHT, "provider": "KEDA"}}
    assert not [c for c in rendered(**only).children if c["kind"] == "ScaledObject"], "a ScaledObject needs a trigger"
    both = {"autoscaling": {**only["autoscaling"], "cpuUtilizationPercent": 70}}
    assert [t["type"] for t in child(rendered(**both), "ScaledObject")["spec"]["triggers"]] == ["cpu"]
    found = verdict(both, SCALED, has_prometheus=False)
    assert (found.status, found.reason) == ("False", Reason.PROMETHEUS_UNKNOWN)
    assert "keda.prometheusAddress" in found.message
    assert verdict(KEDA, saying(SCALED, {"Ready": "True"}), has_prometheus=False).status == "True"


def test_without_custom_metrics_an_hpa_cannot_see_runs_in_flight_even_when_it_sees_cpu() -> None:
    spec = {"autoscaling": {**IN_FLIGHT, "cpuUtilizationPercent": 70}}
    healthy = saying(child(rendered(**spec), "HorizontalPodAutoscaler"), HEALTHY["HPA"])
    found = verdict(spec, healthy, has_custom_metrics=False)
    assert (found.status, found.reason) == ("False", Reason.CUSTOM_METRICS_MISSING)
    assert verdict(spec, healthy).status == "True"
    assert verdict(SPEC, healthy, has_custom_metrics=False).status == "True", "nobody needs them"


@pytest.mark.parametrize(
    ("told", "why", "status", "reason", "words"),
    [
        ({"Ready": "Unknown"}, "", "Unknown", Reason.AUTOSCALER_PENDING, "KEDA"),
        ({}, "", "Unknown", Reason.AUTOSCALER_PENDING, "KEDA"),
        ({"Ready": "False"}, "TriggerError", "False", Reason.NOT_SCALING, "TriggerError: words"),
        ({"Ready": "Unknown"}, "PartialTriggerError", "False", Reason.NOT_SCALING, "PartialTriggerError: words"),
        ({"Ready": "True", "HPAActive": "False"}, "Failed", "False", Reason.NOT_SCALING, "Failed: words"),
        ({"Ready": "True", "Paused": "True"}, "Paused", "False", Reason.NOT_SCALING, "autoscaling.keda.sh/paused"),
        ({"Ready": "True", "Paused": "False", "HPAActive": "True"}, "x", "True", Reason.SCALING, "KEDA"),
    ],
)
def test_what_keda_says_is_what_is_told(
    told: dict[str, str], why: str, status: str, reason: Reason, words: str
) -> None:
    found = verdict(KEDA, saying(SCALED, told, why))
    assert (found.status, found.reason) == (status, reason)
    assert words in found.message


def test_without_keda_that_is_said_and_an_autoscaler_of_another_kind_has_no_say() -> None:
    found = verdict(KEDA, None, has_keda=False)
    assert (found.status, found.reason) == ("False", Reason.KEDA_MISSING)
    assert "install it" in found.message
    assert verdict(KEDA, saying(FREE, HEALTHY["HPA"])).reason is Reason.AUTOSCALER_PENDING
    assert verdict({"autoscaling": {"maxReplicas": 9}}, saying(SCALED, {"Ready": "True"})).status == "Unknown"


def test_the_number_is_kedas_until_its_scaled_object_and_the_autoscaler_it_made_are_gone() -> None:
    owner = Owner(namespace="team-a", name="support", uid=UID)
    made = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "keda-hpa-support"}}
    made["metadata"] |= {
        "ownerReferences": [{"kind": "ScaledObject", "name": "support", "uid": "s", "controller": True}]
    }

    def seen(*live: Manifest) -> dict[ChildKey, Manifest]:
        return {child_key(each): each for each in live}

    assert scaled_by_keda(owner, seen(SCALED)) == {"support"}
    assert scaled_by_keda(owner, seen(made)) == {"support"}
    assert not scaled_by_keda(owner, seen(FREE, child(rendered(), "Deployment")))
    assert not scaled_by_keda(Owner(namespace="team-a", name="support", uid="another"), seen(SCALED))
    for after in ({"replicas": 4}, {"suspend": True}, {"autoscaling": {"maxReplicas": 9}}):
        assert leaves_keda(owner, rendered(**after), seen(made)) == {"support"}
    assert not leaves_keda(owner, rendered(**KEDA), seen(SCALED, made))
    assert not leaves_keda(owner, rendered(autoscaling={"provider": "External"}), seen(SCALED)), (
        "it takes no number of ours"
    )


@pytest.mark.parametrize("after", [{"replicas": 4}, {"suspend": True}, {"autoscaling": {"maxReplicas": 9}}])
def test_while_keda_lets_go_the_deployment_is_as_it_was_but_for_what_else_has_changed(after: dict[str, Any]) -> None:
    before, waiting = rendered(**KEDA), let_go(rendered(**after), {"support"})
    assert child(waiting, "Deployment") == child(before, "Deployment"), "the same bytes: nothing is written"
    assert not [c for c in waiting.children if c["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    changed = let_go(rendered(**after, rollout={"maxSurge": 1}), {"support"})
    assert child(changed, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1
