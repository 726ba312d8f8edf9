"""Decides how managedFields must read before an apply, so that the apply alone makes a child what we declare.

An apply removes what the manager's own Apply entry holds and the manifest no longer says, and nothing else (KEP-555).
So what we created by POST, which an Update entry holds, would stay for ever, and so would what others put into our
lists; a Service port whose number somebody changed would even make every apply fail with a duplicate name. Rewriting
the entries first changes no field of the object: no pod template is rolled out that no revision ever had.
"""

from __future__ import annotations

import copy
import json
from typing import Any, cast

from agentservice_operator.manifest import Manifest
from agentservice_operator.ownership import Path, foreign_items, item_keys, managed_entries


def conversion(live: Manifest, manager: str) -> list[Manifest]:
    """Return the JSON patch after which ``manager`` owns by Apply alone; empty when it already does.

    An Update entry becomes the Apply entry, or goes where there is one: the apply that follows owns it all again.
    """
    ours = managed_entries(live, manager)
    updates = [index for index, entry in ours if entry.get("operation") != "Apply"]
    has_apply = len(updates) < len(ours)
    patch: list[Manifest] = []
    for index in reversed(updates):  # from the end, so that no removal moves an index still to come
        if has_apply or index != updates[0]:
            patch.append({"op": "remove", "path": f"/metadata/managedFields/{index}"})
        else:
            patch.append({"op": "replace", "path": f"/metadata/managedFields/{index}/operation", "value": "Apply"})
    return [_guard(live), *patch] if patch else []


def holds_strangers(live: Manifest, manifest: Manifest, manager: str) -> bool:
    """Tell whether our lists hold items that an apply of ours would leave there: not those that we put there and want no more."""
    entries = [entry for _, entry in managed_entries(live, manager)]
    applied = [entry for entry in entries if entry.get("operation") == "Apply"] or entries
    paths = (_steps(live, path) for path in foreign_items(live, manifest))
    return any(not any(_owns(entry.get("fieldsV1") or {}, path) for entry in applied) for path in paths)


def others_hold(live: Manifest, manifest: Manifest, manager: str) -> bool:
    """Tell whether another manager owns an item in our lists. ``live`` must be the whole object."""
    others: list[Manifest] = [
        entry.get("fieldsV1") or {}
        for entry in cast("list[Manifest]", live["metadata"].get("managedFields") or [])
        if entry.get("manager") != manager and not entry.get("subresource")
    ]
    paths = [_steps(live, path) for path in foreign_items(live, manifest)]
    return any(_owns(fields, path) for path in paths for fields in others)


def takeover(live: Manifest, manifest: Manifest, manager: str) -> list[Manifest]:
    """Return the JSON patch after which ``manager``, by Apply alone, also owns the foreign items in our lists.

    ``live`` must be the whole object: the cache does not keep the entries of others.
    """
    steps = [_steps(live, path) for path in foreign_items(live, manifest)]
    if not steps:
        return conversion(live, manager)
    entries: list[Manifest] = []
    mine: Manifest = {"manager": manager, "apiVersion": live["apiVersion"], "fieldsType": "FieldsV1", "fieldsV1": {}}
    for entry in cast("list[Manifest]", copy.deepcopy(live["metadata"].get("managedFields") or [])):
        if entry.get("subresource"):
            entries.append(entry)
        elif entry.get("manager") == manager:
            # Of an Update and an Apply entry the latter is the one that an apply goes by.
            if not mine["fieldsV1"] or entry.get("operation") == "Apply":
                mine = entry
        else:
            for path in steps:
                _forget(entry["fieldsV1"], path)
            if entry["fieldsV1"]:
                entries.append(entry)
    for path in steps:
        _own(mine["fieldsV1"], path)
    value = [*entries, {**mine, "operation": "Apply"}]
    return [_guard(live), {"op": "replace", "path": "/metadata/managedFields", "value": value}]


def _guard(live: Manifest) -> Manifest:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]}


def _steps(live: Manifest, path: Path) -> list[str]:
    """Return ``path`` as managedFields spell it: `f:` and a member, `k:` and the keys of a list's item."""
    steps: list[str] = []
    node: Any = live
    member = ""
    for part in path:
        node = node[part]
        if isinstance(part, int):
            steps.append("k:" + json.dumps(item_keys(member, node), separators=(",", ":"), sort_keys=True))
        else:
            member = part
            steps.append(f"f:{part}")
    return steps


def _owns(fields: Manifest, path: list[str]) -> bool:
    for step in path:
        found = fields.get(_spelled(fields, step))
        if found is None:
            return False
        fields = found
    return True


def _own(fields: Manifest, path: list[str]) -> None:
    for step in path:
        if fields == {}:
            fields["."] = {}  # a leaf that is about to become a parent is still owned itself
        fields = fields.setdefault(_spelled(fields, step), {})
    fields["."] = {}


def _forget(fields: Manifest, path: list[str]) -> None:
    """Remove ``path``, and the parents that are left empty: an empty parent would mean that it is owned as a whole."""
    step = _spelled(fields, path[0])
    if step not in fields:
        return
    if len(path) > 1:
        _forget(fields[step], path[1:])
    if len(path) == 1 or not fields[step]:
        del fields[step]


def _spelled(fields: Manifest, step: str) -> str:
    """Return ``step`` as ``fields`` write it: the order of a key's members is the server's choice."""
    if step in fields or not step.startswith("k:"):
        return step
    wanted = json.loads(step[2:])
    return next((key for key in fields if key.startswith("k:") and json.loads(key[2:]) == wanted), step)
