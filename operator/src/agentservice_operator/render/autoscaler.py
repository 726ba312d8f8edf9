"""Decides how the number of pods follows the load: a HorizontalPodAutoscaler, or the ScaledObject from which KEDA makes one.

Out at once, as Kubernetes does by default, and in slowly: a pod that goes may have to finish runs of minutes, and a new one starts
cold. So one pod goes every two minutes, and only after the load was low for the whole stabilization window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from agentservice_api import AgentServiceSpec
from agentservice_api.series import PodSeries
from agentservice_api.spec import AutoscalingProvider, AutoscalingSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata

AUTOSCALERS: Final = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})
"""The kinds of children that write a Deployment's replicas."""
PROMETHEUS: Final = "prometheus"
"""KEDA's type of a trigger that asks a Prometheus."""

_SECONDS_PER_POD: Final = 120
_OFF: Final = "Disabled"
"""A policy under which it does not scale out. A lower maximum would scale in at once."""


def render_autoscaler(owner: Owner, spec: AgentServiceSpec) -> Manifest | None:
    """Return the HorizontalPodAutoscaler; None without one, and while no pods are wanted."""
    scaling = spec.autoscaling
    if scaling is None or scaling.provider is not AutoscalingProvider.HPA or spec.suspend:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [*_metrics(scaling)],
            "behavior": _behavior(scaling),
        },
    }


def render_scaled_object(owner: Owner, spec: AgentServiceSpec, *, prometheus: str) -> Manifest | None:
    """Return KEDA's ScaledObject; None without one, and where nothing that it could scale by can be asked.

    ``prometheus`` is the address of a Prometheus that scrapes the pods; empty: there is none.
    """
    scaling = spec.autoscaling
    if scaling is None or scaling.provider is not AutoscalingProvider.KEDA or spec.suspend:
        return None
    triggers = [*_triggers(owner, scaling, prometheus)]
    if not triggers:
        return None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "scaleTargetRef": _target(owner),
            "minReplicaCount": scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            "advanced": {
                # Owned although it is the default: whoever set it would have the number moved when the ScaledObject goes.
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)},
            },
            "triggers": triggers,
        },
    }


def without_scale_out(autoscaler: Manifest) -> Manifest:
    """Return ``autoscaler``, of one of the kinds of `AUTOSCALERS`, such that it only scales in."""
    return _with_behavior(autoscaler, {**_behavior_of(autoscaler), "scaleUp": {"selectPolicy": _OFF}})


def scales_out(autoscaler: Manifest) -> bool:
    """Tell whether an autoscaler, as it is in the cluster, may scale out."""
    scale_up = cast("Manifest", _behavior_of(autoscaler).get("scaleUp") or {})
    return scale_up.get("selectPolicy") != _OFF


def _behavior_of(autoscaler: Manifest) -> Manifest:
    place = cast("Manifest", autoscaler["spec"])
    members = ("advanced", "horizontalPodAutoscalerConfig", "behavior")
    for member in members if autoscaler["kind"] == "ScaledObject" else members[-1:]:
        place = cast("Manifest", place.get(member) or {})
    return place


def _with_behavior(autoscaler: Manifest, behavior: Manifest) -> Manifest:
    spec = autoscaler["spec"]
    if autoscaler["kind"] != "ScaledObject":
        return {**autoscaler, "spec": {**spec, "behavior": behavior}}
    advanced = {**spec["advanced"], "horizontalPodAutoscalerConfig": {"behavior": behavior}}
    return {**autoscaler, "spec": {**spec, "advanced": advanced}}


def _target(owner: Owner) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner.name}


def _metrics(scaling: AutoscalingSpec) -> Iterator[Manifest]:
    if scaling.cpu_target is not None:
        target = {"type": "Utilization", "averageUtilization": scaling.cpu_target}
        yield {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    if scaling.in_flight_per_pod is not None:
        target = {"type": "AverageValue", "averageValue": str(scaling.in_flight_per_pod)}
        yield {"type": "Pods", "pods": {"metric": {"name": PodSeries.ACTIVE}, "target": target}}


def _triggers(owner: Owner, scaling: AutoscalingSpec, prometheus: str) -> Iterator[Manifest]:
    if scaling.cpu_target is not None:
        yield {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(scaling.cpu_target)}}
    if scaling.in_flight_per_pod is not None and prometheus:
        yield {
            "type": PROMETHEUS,
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": prometheus,
                "query": f'sum({PodSeries.ACTIVE}{{namespace="{owner.namespace}",agent_name="{owner.name}"}})',
                "threshold": str(scaling.in_flight_per_pod),
                # Pods that no Prometheus scrapes are a fault to be told of, not pods without load.
                "ignoreNullValues": "false",
            },
        }


def _behavior(scaling: AutoscalingSpec) -> Manifest:
    return {
        "scaleDown": {
            "stabilizationWindowSeconds": scaling.scale_down_stabilization_seconds,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": _SECONDS_PER_POD}],
        }
    }
