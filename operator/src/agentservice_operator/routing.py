"""Decides the condition RouteAccepted: whether callers outside reach the agent by its HTTPRoute, in the Gateways' own words where they do not."""

from __future__ import annotations

from typing import Final, cast

from agentservice_api import AgentServiceSpec, Reason
from agentservice_api.spec import ParentReference
from agentservice_operator.manifest import Manifest
from agentservice_operator.rollout import Verdict

_MISSING: Final = (
    "the Gateway API (gateway.networking.k8s.io/v1) is not installed in this cluster: install it, or use network.ingress. "
    "The route is made by itself then"
)
_ASKED: Final = ("Accepted", "ResolvedRefs")
"""Conditions that a Gateway's controller writes for each parent of a route (https://gateway-api.sigs.k8s.io/api-types/httproute/)."""


def route_accepted(spec: AgentServiceSpec, route: Manifest | None, *, has_gateway_api: bool) -> Verdict | None:
    """Return the verdict; None without `network.httpRoute`."""
    wanted = spec.network.http_route
    if wanted is None:
        return None
    if not has_gateway_api:
        return Verdict(status="False", reason=Reason.GATEWAY_API_MISSING, message=_MISSING)
    verdicts = [_of_parent(reference, route) for reference in wanted.parent_refs]
    return next((v for status in ("False", "Unknown") for v in verdicts if v.status == status), verdicts[0])


def _of_parent(reference: ParentReference, route: Manifest | None) -> Verdict:
    parents = cast("list[Manifest]", ((route or {}).get("status") or {}).get("parents") or [])
    own = (route or {}).get("metadata", {}).get("namespace", "")
    told = [parent for parent in parents if _is_about(parent["parentRef"], reference, own)]
    conditions = [c for parent in told for c in cast("list[Manifest]", parent["conditions"])]
    for condition in conditions:
        if condition.get("type") in _ASKED and condition.get("status") == "False":
            message = f"Gateway {reference.name}: {condition.get('reason')}: {condition.get('message')}"
            return Verdict(status="False", reason=Reason.ROUTE_REFUSED, message=message)
    if not any(c.get("type") == "Accepted" and c.get("status") == "True" for c in conditions):
        return Verdict(
            status="Unknown",
            reason=Reason.ROUTE_PENDING,
            message=f"Gateway {reference.name} has not taken the route yet: is there a Gateway of this name and a controller for it?",
        )
    return Verdict(status="True", reason=Reason.ROUTED, message="every named Gateway takes the route")


def _is_about(told: Manifest, reference: ParentReference, own_namespace: str) -> bool:
    return (
        told.get("name") == reference.name
        and (told.get("namespace") or own_namespace) == (reference.namespace or own_namespace)
        and (told.get("sectionName") or "") == reference.section_name
    )
