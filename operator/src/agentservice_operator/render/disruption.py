"""Decides the PodDisruptionBudget: a node's drain takes one pod at a time, and never waits for pods that are broken anyway.

With one pod there is none: `kubectl drain` would wait for ever. `maxUnavailable`, because `minAvailable: 1` blocks the
drain of a single pod; AlwaysAllow, because a pod that is not ready serves nobody (KEP-3017).
"""

from __future__ import annotations

from agentservice_operator.manifest import Manifest
from agentservice_operator.render.fleet import Fleet
from agentservice_operator.render.metadata import metadata


def render_disruption_budget(fleet: Fleet) -> Manifest | None:
    """Return the PodDisruptionBudget; None where there are never two pods. A number that nobody bounds may be two."""
    if fleet.most is not None and fleet.most < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(fleet.owner, fleet.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": fleet.selector},
        },
    }
