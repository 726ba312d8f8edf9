"""Decides the Service in front of the pods, and the address under which it answers."""

from __future__ import annotations

from agentservice_api import AgentServiceSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata, selector


def render_service(owner: Owner, spec: AgentServiceSpec) -> Manifest:
    """Return the Service. Its port is written out in full: `protocol` is part of the key by which ports merge."""
    service = spec.network.service
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name, annotations=service.annotations),
        "spec": {
            "type": service.type.value,
            "selector": selector(owner),
            "ports": [{"name": "http", "port": service.port, "protocol": "TCP", "targetPort": "http"}],
        },
    }


def service_url(owner: Owner, spec: AgentServiceSpec) -> str:
    """Return where the agent answers inside the cluster."""
    port = spec.network.service.port
    return f"http://{owner.name}.{owner.namespace}.svc" + ("" if port == 80 else f":{port}")
