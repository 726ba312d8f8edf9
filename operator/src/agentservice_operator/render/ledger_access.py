"""Decides what lets the pods of an agent with a budget keep its AgentLedger: read that one object, write its status, no more."""

from __future__ import annotations

from agentservice_api import AgentServiceSpec, names
from agentservice_api.budget.ledger import LEDGER_PLURAL
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.render.metadata import metadata

_GROUP = "rbac.authorization.k8s.io"


def render_role(owner: Owner) -> Manifest:
    """Return the Role. `list` is what a watch by field selector of one name asks for; every other list is refused."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "Role",
        "metadata": metadata(owner, names.ledger_role_name(owner.name)),
        "rules": [
            {
                "apiGroups": [names.GROUP],
                "resources": [LEDGER_PLURAL],
                "resourceNames": [owner.name],
                "verbs": ["get", "list", "watch"],
            },
            {
                "apiGroups": [names.GROUP],
                "resources": [f"{LEDGER_PLURAL}/status"],
                "resourceNames": [owner.name],
                "verbs": ["patch"],
            },
        ],
    }


def render_role_binding(owner: Owner, spec: AgentServiceSpec) -> Manifest:
    """Return the RoleBinding to the ServiceAccount that the pods run as, one of the user's too."""
    name = names.ledger_role_name(owner.name)
    account = spec.runtime.service_account_name or owner.name
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(owner, name),
        "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": owner.namespace}],
    }
