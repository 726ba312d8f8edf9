"""Decides how the number of a Deployment's pods passes from us to an autoscaler without moving.

A field that its only owner no longer applies falls to its default: omitting `replicas` alone would leave one pod. So the number that
is there is first applied by another manager, and stays when we omit it. The autoscaler takes it from that manager with its first
write. (KEP-555; "Transferring ownership" in the Kubernetes documentation)
"""

from __future__ import annotations

from typing import Any

from agentservice_operator.manifest import Manifest
from agentservice_operator.ownership import managed_entries


def leaves_the_count(manifest: Manifest) -> bool:
    """Tell whether ``manifest`` is a Deployment whose number of pods somebody else decides."""
    return manifest["kind"] == "Deployment" and "replicas" not in manifest["spec"]


def with_count(manifest: Manifest, count: int) -> Manifest:
    """Return ``manifest`` as it is created: with ``count`` pods where it leaves the number to somebody else."""
    if not leaves_the_count(manifest):
        return manifest
    return {**manifest, "spec": {"replicas": count, **manifest["spec"]}}


def handover(live: Manifest, manifest: Manifest, manager: str, *, first: int) -> Manifest | None:
    """Return what has to be applied under another manager before ``manager`` applies ``manifest``.

    None where nothing is handed over. No pods (``manager`` had suspended them, or none were declared) become ``first``: an autoscaler
    never begins at zero. The body carries the resourceVersion of ``live``, so that no newer number is overwritten.
    """
    if not leaves_the_count(manifest) or not _owns_the_count(live, manager):
        return None
    metadata = {key: live["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": metadata,
        "spec": {"replicas": live["spec"].get("replicas") or first},
    }


def _owns_the_count(live: Manifest, manager: str) -> bool:
    entries: list[dict[str, Any]] = [entry.get("fieldsV1") or {} for _, entry in managed_entries(live, manager)]
    return any("f:replicas" in (fields.get("f:spec") or {}) for fields in entries)
