"""Decides how a step of an AgentLedger is written: its status by compare-and-swap, never by apply.

Two applies of one status are both granted (seen on a real API server); a merge patch that carries the resourceVersion
just read is refused when somebody was faster. The specification is patched without it, because pods write the status all
the time and a limit must not wait for a quiet moment. It is no apply either: the whole of it is ours, and a
merge patch replaces a list as a whole, whoever wrote its items.
"""

from __future__ import annotations

import contextlib

from agentservice_api import names
from agentservice_api.budget import LedgerSpec
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import NotFound
from agentservice_operator.kube.resources import AGENTLEDGERS
from agentservice_operator.ledger import Adjust, Delete, Write
from agentservice_operator.manifest import Key, Manifest, Owner
from agentservice_operator.render.metadata import labels

LiveStep = Adjust | Write | Delete


async def create(client: Client, key: Key, spec: LedgerSpec) -> Manifest:
    """Create the ledger, without accounts. Raises the client's errors; AlreadyExists when it is there."""
    body = {
        "apiVersion": AGENTLEDGERS.api_version,
        "kind": AGENTLEDGERS.kind,
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": labels(Owner(namespace=key.namespace, name=key.name, uid="")),
        },
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return await client.create(AGENTLEDGERS, body, field_manager=names.FIELD_MANAGER)


async def write(client: Client, live: Manifest, step: LiveStep) -> Manifest | None:
    """Carry out ``step`` on ``live``; return the object as it is then, None after a deletion.

    Raises the client's errors; Conflict when somebody was faster.
    """
    metadata = live["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    if isinstance(step, Adjust):
        return await client.patch_merge(AGENTLEDGERS, namespace, name, step.patch, field_manager=names.FIELD_MANAGER)
    if isinstance(step, Write):
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": step.patch}
        return await client.patch_merge(
            AGENTLEDGERS, namespace, name, body, field_manager=names.FIELD_MANAGER_LEDGER, subresource="status"
        )
    with contextlib.suppress(NotFound):
        await client.delete(
            AGENTLEDGERS, namespace, name, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
        )
    return None
