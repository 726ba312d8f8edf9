"""Decides what of each watched object is kept in memory: what planning and judging read, no more.

5,000 agents have 5,000 Deployments of 10 kB each, most of it managedFields of others; the trims keep the cache
small. They are pure and run once per event, before the object is stored.
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from agentservice_api import names
from agentservice_operator.manifest import Manifest


def trim_child(live: Manifest) -> Manifest:
    """Keep metadata, spec and status of a child. Entries of other managers stay as stubs, so that ours keep their index."""
    meta: Manifest = {**live["metadata"]}
    entries = cast("list[Manifest]", meta.get("managedFields") or [])
    meta["managedFields"] = [
        entry
        if entry.get("manager") == names.FIELD_MANAGER and not entry.get("subresource")
        else {
            "manager": entry.get("manager"),
            "operation": entry.get("operation"),
            "subresource": entry.get("subresource"),
        }
        for entry in entries
    ]
    return {key: value for key, value in {**live, "metadata": meta}.items() if key not in ("data", "binaryData")}


def trim_declared(live: Manifest) -> Manifest:
    """Keep of a child what it declares. What became of it is nothing that we judge."""
    return {key: value for key, value in trim_child(live).items() if key != "status"}


def trim_autoscaler(live: Manifest) -> Manifest:
    """Keep of an autoscaler what it declares and whether it can act, not what it measured: that changes all the time.

    Of a ScaledObject too; whether its triggers are active, which its condition Active tells, is such a measure.
    """
    conditions = cast("list[Manifest]", (live.get("status") or {}).get("conditions") or [])
    told = [
        {key: c.get(key) for key in ("type", "status", "reason", "message")}
        for c in conditions
        if c.get("type") != "Active"
    ]
    return {**trim_declared(live), "status": {"conditions": told}}


def trim_route(live: Manifest) -> Manifest:
    """Keep of an HTTPRoute what it declares and what each Gateway's controller says of it."""
    parents = cast("list[Manifest]", (live.get("status") or {}).get("parents") or [])
    told = [
        {
            "parentRef": cast("Manifest", parent.get("parentRef") or {}),
            "conditions": [
                {key: c.get(key) for key in ("type", "status", "reason", "message")}
                for c in cast("list[Manifest]", parent.get("conditions") or [])
            ],
        }
        for parent in parents
    ]
    return {**trim_declared(live), "status": {"parents": told}}


def trim_config_map(live: Manifest) -> Manifest:
    """Keep one of ours as a child; of any other what tells it from its predecessor: someone may refer to it."""
    labels = cast("dict[str, str]", live["metadata"].get("labels") or {})
    if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
        return trim_child(live)
    return {"metadata": _few(live, "name", "namespace", "uid", "resourceVersion")}


def trim_agent_service(live: Manifest) -> Manifest:
    """Drop managedFields and the copy that `kubectl apply` keeps in an annotation."""
    meta: Manifest = {key: value for key, value in live["metadata"].items() if key != "managedFields"}
    annotations = cast("dict[str, str]", meta.get("annotations") or {})
    meta["annotations"] = {key: value for key, value in annotations.items() if key.startswith(f"{names.GROUP}/")}
    return {**live, "metadata": meta}


def intent(live: Manifest) -> tuple[Any, ...]:
    """Return what of an AgentService decides its children: equal intents need no second reconcile."""
    meta: Manifest = live["metadata"]
    annotations = cast("dict[str, str]", meta.get("annotations") or {})
    ours = {key: value for key, value in annotations.items() if key.startswith(f"{names.GROUP}/")}
    return meta["uid"], meta["generation"], meta.get("deletionTimestamp"), ours


def trim_replica_set(live: Manifest) -> Manifest:
    """Keep which ConfigMaps a ReplicaSet mounts, and why it cannot create pods."""
    template: Manifest = live.get("spec", {}).get("template", {})
    return {
        "metadata": _few(live, "name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"),
        "configMaps": _config_maps(template.get("spec") or {}),
        "status": {"conditions": (live.get("status") or {}).get("conditions") or []},
    }


def trim_pod(live: Manifest) -> Manifest:
    """Keep a pod's revision, the ConfigMaps it mounts and how it fares."""
    status: Manifest = live.get("status") or {}
    return {
        "metadata": _few(
            live,
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "labels",
            "creationTimestamp",
            "deletionTimestamp",
            "ownerReferences",
        ),
        "configMaps": _config_maps(live.get("spec") or {}),
        "status": {
            "phase": status.get("phase"),
            "reason": status.get("reason"),
            "conditions": [
                {key: condition.get(key) for key in ("type", "status", "reason", "message")}
                for condition in cast("list[Manifest]", status.get("conditions") or [])
            ],
            "containerStatuses": [
                {key: container.get(key) for key in ("name", "ready", "restartCount", "state", "lastState")}
                for container in cast("list[Manifest]", status.get("containerStatuses") or [])
            ],
        },
    }


def trim_ledger(live: Manifest) -> Manifest:
    """Keep an AgentLedger, which may have to be restored, with the books as a text that is parsed when they are asked for: they may have 20 kB."""
    status: Manifest = {**(live.get("status") or {})}
    closed = status.pop("closed", None)
    metadata = _few(
        live,
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "labels",
        "annotations",
    )
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": metadata,
        "spec": live.get("spec") or {},
        "status": status,
        "books": orjson.dumps(closed).decode() if closed else "",
    }


def trim_event(live: Manifest) -> Manifest:
    """Keep what an Event says, and of which object."""
    return {
        "metadata": _few(live, "name", "namespace", "uid", "resourceVersion"),
        "regarding": live.get("regarding") or {},
        "note": live.get("note") or "",
    }


def _few(live: Manifest, *members: str) -> Manifest:
    metadata: Manifest = live["metadata"]
    return {key: metadata[key] for key in members if key in metadata}


def _config_maps(pod_spec: Manifest) -> tuple[str, ...]:
    volumes = cast("list[Any]", pod_spec.get("volumes") or [])
    return tuple(volume["configMap"]["name"] for volume in volumes if volume.get("configMap"))
