"""Decides the PodDisruptionBudget: a node's drain takes one pod at a time, and never waits for pods that are broken anyway.

With one pod there is none: `kubectl drain` would wait for ever. `maxUnavailable`, because `minAvailable: 1` blocks the
drain of a single pod; AlwaysAllow, because a pod that is not ready serves nobody (KEP-3017).
"""

from __future__ import annotations

from agentservice_api import AgentServiceSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata, selector


def render_disruption_budget(owner: Owner, spec: AgentServiceSpec) -> Manifest | None:
    """Return the PodDisruptionBudget; None where there are never two pods. A number that nobody bounds may be two."""
    scaling = spec.autoscaling
    most = spec.replicas if scaling is None else scaling.max_replicas
    if spec.suspend or (most is not None and most < 2):
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(owner)},
        },
    }
