"""Decides how one planned change is written, and what to do when the object is not what the plan saw.

A child is created by POST, which cannot overwrite a stranger's (409). At its first change its managedFields entry is
turned from Update into Apply, because an apply removes only what an Apply entry owns; from then on server-side
applies carry its uid. (facts of a real API server 1.36; KEP-555)
"""

from __future__ import annotations

from dataclasses import replace

from agentservice_api import names
from agentservice_operator.handover import handover, with_count
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.errors import AlreadyExists, Conflict, Invalid, KubeError, NotFound
from agentservice_operator.kube.resources import Resource, resource_of
from agentservice_operator.manifest import Manifest, Owner
from agentservice_operator.plan import Change, Verb, decide
from agentservice_operator.takeover import conversion, takeover

_ATTEMPTS = 4
"""How often a change is decided anew because somebody else writes the same object at the same time."""


async def execute(
    client: Client, change: Change, *, owner: Owner, adopt: bool, first_replicas: int = 1
) -> tuple[Change, Manifest | None]:
    """Write ``change`` and return what was done at last, with the object as the API server answered it.

    The change that was done differs from the planned one when the object had changed meanwhile: created by
    somebody else (the result may be REFUSE), gone, or edited again. Raises the client's errors, and OvertakenError when others write the object faster than it can be judged.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return change, await _write(client, change, owner, first_replicas)
        except (Conflict, NotFound, OvertakenError) as error:
            if change.verb is Verb.DELETE:
                return replace(change, verb=Verb.KEEP), None
            if attempt == _ATTEMPTS - 1 or not _was_overtaken(change, error):
                raise
        change = decide(owner, change.manifest, await _read(client, change, owner), adopt=adopt)
        if change.verb not in (Verb.CREATE, Verb.APPLY):
            return change, None
    raise AssertionError("unreachable")


class OvertakenError(KubeError):
    """A JSON patch met another state of the object than the one that was judged. Trying again later mends it."""


def _was_overtaken(change: Change, error: Exception) -> bool:
    # A create that is answered by 404 lacks its namespace: nothing that deciding anew would mend.
    return change.verb is not Verb.CREATE or isinstance(error, AlreadyExists)


async def _read(client: Client, change: Change, owner: Owner) -> Manifest | None:
    try:
        return await client.get(_resource(change), owner.namespace, change.child.name)
    except NotFound:
        return None


async def _write(client: Client, change: Change, owner: Owner, first_replicas: int) -> Manifest | None:
    resource, namespace, name = _resource(change), owner.namespace, change.child.name
    if change.verb is Verb.CREATE:
        manifest = with_count(change.manifest, first_replicas)
        return await client.create(resource, manifest, field_manager=names.FIELD_MANAGER)
    assert change.live is not None, "only a live object is applied to or deleted"  # noqa: S101
    metadata = change.live["metadata"]
    if change.verb is Verb.DELETE:
        await client.delete(
            resource, namespace, name, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
        )
        return None
    live = change.live
    if change.takes_over:
        whole = await client.get(resource, namespace, name)
        if whole["metadata"]["uid"] != metadata["uid"]:
            raise OvertakenError(f"{change.child} was replaced")  # another one of the name, which nobody has judged yet
        patch = takeover(whole, change.manifest, names.FIELD_MANAGER)
    else:
        patch = conversion(change.live, names.FIELD_MANAGER)
    if patch:
        live = await _patch(client, resource, owner, name, patch)
    passed_on = handover(live, change.manifest, names.FIELD_MANAGER, first=first_replicas)
    if passed_on is not None:
        await client.apply(resource, passed_on, field_manager=names.FIELD_MANAGER_HANDOFF)
    body = {**change.manifest, "metadata": {**change.manifest["metadata"], "uid": metadata["uid"]}}
    return await client.apply(resource, body, field_manager=names.FIELD_MANAGER)


async def _patch(client: Client, resource: Resource, owner: Owner, name: str, operations: list[Manifest]) -> Manifest:
    try:
        return await client.patch_json(resource, owner.namespace, name, operations, field_manager=names.FIELD_MANAGER)
    except Invalid as error:
        # The server answers a failed `test` as it answers a manifest that is invalid; a second look tells them apart.
        raise OvertakenError(f"{resource.kind} {name} keeps changing: {error}") from error


def _resource(change: Change) -> Resource:
    if change.manifest:
        return resource_of(change.manifest["apiVersion"], change.manifest["kind"])
    assert change.live is not None, "only a live object is pruned"  # noqa: S101
    return resource_of(change.live["apiVersion"], change.child.kind)
