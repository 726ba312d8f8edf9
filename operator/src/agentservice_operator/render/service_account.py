"""Decides the ServiceAccount of the pods. It has no permissions and its token is not mounted."""

from __future__ import annotations

from agentservice_api import AgentServiceSpec
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata


def render_service_account(owner: Owner, spec: AgentServiceSpec) -> Manifest:
    """Return the ServiceAccount, with the annotations by which a cloud gives its pods an identity."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(owner, owner.name, annotations=spec.runtime.service_account_annotations),
        "automountServiceAccountToken": False,
    }
