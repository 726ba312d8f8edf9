"""Decides the HorizontalPodAutoscaler: out at once, as Kubernetes does by default, and in slowly.

A pod that goes may have to finish runs of minutes, and a new one starts cold. So one pod goes every two minutes, and only after the
load was low for the whole stabilization window.
"""

from __future__ import annotations

from typing import Final, cast

from agentservice_api import AgentServiceSpec
from agentservice_api.spec import AutoscalingProvider
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata

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
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner.name},
            "minReplicas": scaling.min_replicas,
            "maxReplicas": scaling.max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": scaling.cpu_utilization_percent},
                    },
                }
            ],
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": scaling.scale_down_stabilization_seconds,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": _SECONDS_PER_POD}],
                }
            },
        },
    }


def without_scale_out(autoscaler: Manifest) -> Manifest:
    """Return ``autoscaler`` such that it only scales in."""
    spec = autoscaler["spec"]
    return {**autoscaler, "spec": {**spec, "behavior": {**spec["behavior"], "scaleUp": {"selectPolicy": _OFF}}}}


def scales_out(autoscaler: Manifest) -> bool:
    """Tell whether an autoscaler, as it is in the cluster, may scale out."""
    behavior = cast("Manifest", autoscaler["spec"].get("behavior") or {})
    scale_up = cast("Manifest", behavior.get("scaleUp") or {})
    return scale_up.get("selectPolicy") != _OFF
