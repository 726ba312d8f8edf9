"""Decides how the number of pods follows the load: a HorizontalPodAutoscaler, or the ScaledObject from which KEDA makes one.

Out at once, as Kubernetes does by default, and in slowly: a pod that goes may have to finish runs of minutes, and a new one starts
cold. So one pod goes every two minutes, and only after the load was low for the whole stabilization window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

from agentservice_api import AgentServiceSpec, names
from agentservice_api.config import Role
from agentservice_api.series import PodSeries
from agentservice_api.spec import AutoscalingProvider, AutoscalingSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.fleet import Fleet, scales_workers
from agentservice_operator.render.metadata import metadata

AUTOSCALERS: Final = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})
"""The kinds of children that write a Deployment's replicas."""
PROMETHEUS: Final = "prometheus"
"""KEDA's type of a trigger that asks a Prometheus."""

_REDIS_KEYS: Final = ("address", "username", "password", "tls")
"""Keys of a Secret, named as KEDA's parameters."""
_SECONDS_PER_POD: Final = 120
_LOOK_SECONDS: Final = 5
"""Between two looks of KEDA's at a queue that has no worker: what a task waits for at most until a pod is started for it."""
_LABEL_LENGTH: Final = 63
"""Characters. KEDA's admission refuses a ScaledObject whose autoscaler's name does not fit into a label."""
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
            "scaleTargetRef": _target(owner.name),
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [*_metrics(scaling)],
            "behavior": _behavior(scaling),
        },
    }


def render_scaled_object(fleet: Fleet, spec: AgentServiceSpec, *, prometheus: str) -> Manifest | None:
    """Return KEDA's ScaledObject; None without one, and where nothing that it could scale by can be asked.

    ``prometheus`` is the address of a Prometheus that scrapes the pods; empty: there is none.
    """
    scaling = spec.autoscaling
    if scaling is None or scaling.provider is not AutoscalingProvider.KEDA or fleet.count is not None:
        return None
    works = fleet.role is Role.WORKER
    triggers = [*_triggers(fleet, spec, scaling, prometheus)]
    if not triggers:
        return None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(fleet.owner, fleet.name),
        "spec": {
            "scaleTargetRef": _target(fleet.name),
            # Workers go when nothing waits and nothing is worked on; those that serve never all of them.
            "minReplicaCount": 0 if works else scaling.min_replicas,
            "maxReplicaCount": scaling.max_replicas,
            **(_from_none(scaling) if works else {}),
            "advanced": {
                # Owned although it is the default: whoever set it would have the number moved when the ScaledObject goes.
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {**_autoscaler_name(fleet.name), "behavior": _behavior(scaling)},
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
    config = {**spec["advanced"]["horizontalPodAutoscalerConfig"], "behavior": behavior}
    advanced = {**spec["advanced"], "horizontalPodAutoscalerConfig": config}
    return {**autoscaler, "spec": {**spec, "advanced": advanced}}


def render_redis_access(owner: Owner, spec: AgentServiceSpec) -> Manifest | None:
    """Return KEDA's TriggerAuthentication, by which it finds the queue's Redis; None where it needs none.

    KEDA takes no URL, so the Secret that holds it has to say the parts, too (https://keda.sh/docs/latest/scalers/redis-streams/). KEDA reads
    it, we do not; a key that is not there counts as not set.
    """
    scaling = spec.autoscaling
    if scaling is None or scaling.queued_tasks_per_pod is None or spec.redis is None or spec.suspend:
        return None
    secret = spec.redis.url_from.secret_key_ref.name
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": metadata(owner, owner.name),
        "spec": {"secretTargetRef": [{"parameter": key, "name": secret, "key": key} for key in _REDIS_KEYS]},
    }


def _from_none(scaling: AutoscalingSpec) -> Manifest:
    """Return when the last of the pods go, and how soon the first one comes."""
    idle = scaling.scale_down_stabilization_seconds
    # The initial one, too: pods that were there before KEDA was asked would else go at its first look.
    return {"pollingInterval": _LOOK_SECONDS, "cooldownPeriod": idle, "initialCooldownPeriod": idle}


def _autoscaler_name(name: str) -> Manifest:
    """Return the name of the autoscaler that KEDA makes, where the one that it would choose is too long."""
    return {"name": name} if len(f"keda-hpa-{name}") > _LABEL_LENGTH else {}


def _target(deployment: str) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}


def _metrics(scaling: AutoscalingSpec) -> Iterator[Manifest]:
    cpu = scaling.cpu_target(by_queue=False)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        yield {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    if scaling.in_flight_per_pod is not None:
        target = {"type": "AverageValue", "averageValue": str(scaling.in_flight_per_pod)}
        yield {"type": "Pods", "pods": {"metric": {"name": PodSeries.ACTIVE}, "target": target}}


def _triggers(fleet: Fleet, spec: AgentServiceSpec, scaling: AutoscalingSpec, prometheus: str) -> Iterator[Manifest]:
    owner, works = fleet.owner, fleet.role is Role.WORKER
    by_queue = scaling.queued_tasks_per_pod is not None and works is scales_workers(spec)
    if by_queue:
        # A task stays in the stream until it is done: its length is lag and pending in one, with a Redis of any version.
        stream = names.queue_stream(namespace=owner.namespace, name=owner.name, uid=owner.uid)
        yield {
            "type": "redis-streams",
            "metricType": "AverageValue",
            "metadata": {"stream": stream, "streamLength": str(scaling.queued_tasks_per_pod)},
            "authenticationRef": {"name": owner.name},
        }
    if works:
        return
    cpu = scaling.cpu_target(by_queue=by_queue)
    if cpu is not None:
        yield {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(cpu)}}
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
