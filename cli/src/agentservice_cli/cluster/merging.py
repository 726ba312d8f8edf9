"""Decides what a JSON merge patch is and does (RFC 7396)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentservice_cli.cluster.plain import Manifest, member, part


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Manifest:
    """Return the patch that turns `old` into `new`; null removes a member."""
    patch: Manifest = {}
    for key in {**old, **new}:
        if key not in new:
            patch[key] = None
        elif isinstance(member(old, key), dict) and isinstance(new[key], dict):
            below = merge_patch(part(old, key), part(new, key))
            if below:
                patch[key] = below
        elif key not in old or old[key] != new[key]:
            patch[key] = new[key]
    return patch


def apply_merge_patch(target: object, patch: Manifest) -> Manifest:
    """Return `target` with `patch` applied; neither is changed."""
    result = dict(part({"target": target}, "target"))
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = apply_merge_patch(result.get(key), part(patch, key))
        else:
            result[key] = value
    return result
