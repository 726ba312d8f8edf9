"""Decides the metadata that every child carries: labels, owner, nothing that another tool tracks by.

The labels `app.kubernetes.io/instance` and Argo CD's tracking annotations are left out on purpose: with them
Argo CD would take a child for one of its own and prune it.
"""

from __future__ import annotations

from agentservice_api import names
from agentservice_operator.manifest import Manifest, Owner


def labels(owner: Owner) -> dict[str, str]:
    """Return the labels of every child of ``owner``."""
    return {
        names.LABEL_NAME: owner.name,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        "app.kubernetes.io/name": "agentservice",
    }


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels that select the pods: one label, because a selector can never be changed."""
    return {names.LABEL_NAME: owner.name}


def metadata(owner: Owner, name: str, *, annotations: dict[str, str] | None = None) -> Manifest:
    """Return the metadata of a child: controlled by ``owner``, so that deleting works while the operator is down."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner),
        **({"annotations": annotations} if annotations else {}),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
