"""Decides which children may go: those that nothing needs any more, and what pods need only once no pod of an old revision is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentservice_operator.caches import Caches
from agentservice_operator.manifest import ChildKey, Key, Manifest, Owner, child_key
from agentservice_operator.plan import controller_uid
from agentservice_operator.render import Rendered
from agentservice_operator.render.autoscaler import AUTOSCALERS
from agentservice_operator.rollout import Observation

_UNUSED_BY_PODS: Final = frozenset(
    {"PodDisruptionBudget", "NetworkPolicy", "Ingress", "HTTPRoute", "TriggerAuthentication", *AUTOSCALERS}
)
"""Kinds of children that no pod needs: they go at once."""
_UNMOUNTED: Final = frozenset({"ServiceAccount", "Role", "RoleBinding"})
"""Kinds of children that go as soon as no pod of an old revision is left, no worker either."""


def prunable(caches: Caches, owner: Owner, rendered: Rendered, observed: Mapping[ChildKey, Manifest]) -> set[ChildKey]:
    """Return the children in ``observed`` that are not ``rendered`` and may go now."""
    key = Key(owner.namespace, owner.name)
    unneeded = observed.keys() - {child_key(manifest) for manifest in rendered.children}
    ours = {child for child in unneeded if controller_uid(observed[child]) == owner.uid}
    if not ours:
        return ours
    found = {child for child in ours if child.kind in _UNUSED_BY_PODS}
    observation = caches.observation(key, owner.uid)
    if not _is_settled(observation, rendered.revision):
        return found
    # Workers that nobody asks for any more: those that serve are ready to do their work.
    found |= {child for child in ours if child.kind == "Deployment"}
    if _are_settled(observation.workers, rendered.workers_revision):
        mounted = caches.mounted_config_maps(key) | {rendered.config_map}
        found |= {child for child in ours if child.kind in _UNMOUNTED}
        found |= {child for child in ours if child.kind == "ConfigMap" and child.name not in mounted}
    return found


def _is_settled(observation: Observation, revision: str) -> bool:
    """Tell whether the Deployment controller has nothing left to do for ``revision``."""
    deployment, status = observation.deployment, observation.status
    return (
        deployment is not None
        and observation.revision == revision
        and int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
        and int(status.get("replicas") or 0) == int(status.get("updatedReplicas") or 0)
    )


def _are_settled(workers: Observation | None, revision: str | None) -> bool:
    """Tell the same of the workers; where there are to be none, none is left."""
    if workers is None:
        return True
    return not workers.pods and workers.deployment is None if revision is None else _is_settled(workers, revision)
