"""Decides the Ingress: it leads to the paths for callers and no other, so that nobody outside reads metrics or probes."""

from __future__ import annotations

from typing import Final

from agentservice_api import AgentServiceSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata

CALLERS_PATH: Final = "/v1"


def render_ingress(owner: Owner, spec: AgentServiceSpec) -> Manifest | None:
    """Return the Ingress, None when none is asked for."""
    ingress = spec.network.ingress
    if ingress is None:
        return None
    host: Manifest = {"host": ingress.host} if ingress.host else {}
    backend = {"service": {"name": owner.name, "port": {"name": "http"}}}
    intent: Manifest = {
        "rules": [{**host, "http": {"paths": [{"path": CALLERS_PATH, "pathType": "Prefix", "backend": backend}]}}]
    }
    if ingress.class_name:
        intent["ingressClassName"] = ingress.class_name
    if ingress.tls_secret_name:
        hosts = {"hosts": [ingress.host]} if ingress.host else {}
        intent["tls"] = [{**hosts, "secretName": ingress.tls_secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(owner, owner.name, annotations=ingress.annotations),
        "spec": intent,
    }
