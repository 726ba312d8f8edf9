"""Decides the HTTPRoute of the Gateway API: it leads to the paths for callers and no other."""

from __future__ import annotations

from agentservice_api import AgentServiceSpec
from agentservice_api.spec import ParentReference
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.ingress import CALLERS_PATH
from agentservice_operator.render.metadata import metadata


def render_route(owner: Owner, spec: AgentServiceSpec) -> Manifest | None:
    """Return the HTTPRoute, None when none is asked for."""
    route = spec.network.http_route
    if route is None:
        return None
    backend = {"kind": "Service", "name": owner.name, "port": spec.network.service.port, "weight": 1}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "parentRefs": [_parent(reference) for reference in route.parent_refs],
            **({"hostnames": list(route.hostnames)} if route.hostnames else {}),
            "rules": [
                {"matches": [{"path": {"type": "PathPrefix", "value": CALLERS_PATH}}], "backendRefs": [backend]},
            ],
        },
    }


def _parent(reference: ParentReference) -> Manifest:
    return {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": reference.name,
        **({"namespace": reference.namespace} if reference.namespace else {}),
        **({"sectionName": reference.section_name} if reference.section_name else {}),
    }
