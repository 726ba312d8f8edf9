"""Decides whether a live object still is what we applied, from managedFields alone.

The API server records per manager which fields it set (KEP-555). When somebody else changes or removes one of
ours, it leaves our entry; so "our entry covers the whole manifest" means that nothing of ours was touched,
without comparing values, which the server normalises (quantities, defaults). Three things the entry cannot tell
are compared with the live object: items that somebody added to a keyed list, fields whose false or zero value the
server does not store (`paused: false`), and maps that somebody took as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias, cast

from agentservice_api.quantities import parse_quantity
from agentservice_operator.manifest import Manifest

Fields: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str | int, ...]

_IDENTITY = frozenset({"name", "namespace", "uid"})
"""Members of metadata that say which object this is; nobody owns them, nor apiVersion and kind."""


def managed_entries(live: Manifest, manager: str) -> list[tuple[int, Manifest]]:
    """Return the entries of ``manager`` for the object itself, with their index in managedFields."""
    entries: list[Manifest] = live["metadata"].get("managedFields") or []
    return [
        (index, entry)
        for index, entry in enumerate(entries)
        if entry.get("manager") == manager and not entry.get("subresource")
    ]


def owns_all(live: Manifest, manifest: Manifest, manager: str) -> bool:
    """Tell whether the entries of ``manager`` cover every field of ``manifest``."""
    owned: list[Fields] = [entry.get("fieldsV1") or {} for _, entry in managed_entries(live, manager)]
    return bool(owned) and _covered(_content(manifest), owned, live)


def _content(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _IDENTITY}
    return {
        **{key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")},
        "metadata": metadata,
    }


def is_untouched(live: Manifest, manager: str) -> bool:
    """Tell whether nobody but ``manager`` ever wrote ``live``, as of an object that it has just created."""
    entries: list[Manifest] = live["metadata"].get("managedFields") or []
    return bool(entries) and all(entry.get("manager") == manager for entry in entries)


# Plain loops from here on: this is half of what a reconcile without changes costs.


def _below(owned: Sequence[Fields], key: str) -> list[Fields]:
    name = "f:" + key
    return [fields[name] for fields in owned if name in fields]


def _covered(value: Any, owned: list[Fields], live: Any) -> bool:
    if not value:
        return True
    if not owned:
        return False
    for fields in owned:
        if not fields:
            # A leaf: the value is owned as a whole (scalars, atomic lists and maps). Or a map or keyed list all of whose
            # members somebody took: that looks the same, but then the live value is not ours.
            return not isinstance(value, (dict, list)) or contains(live, value)
    if isinstance(value, dict):
        return _members_covered(cast("Manifest", value), owned, live)
    if isinstance(value, list):
        for item in cast("list[Any]", value):  # noqa: SIM110
            if not _item_covered(item, owned, live):
                return False
        return True
    return False


def _members_covered(members: Manifest, owned: list[Fields], live: Any) -> bool:
    theirs = cast("Manifest", live) if isinstance(live, dict) else Manifest()
    for key, value in members.items():
        if value and not _covered(value, _below(owned, key), theirs.get(key)):
            return False
    return True


def _item_covered(item: Any, owned: Sequence[Fields], live: Any) -> bool:
    if not isinstance(item, dict):
        return any(f"v:{json.dumps(item)}" in fields for fields in owned)
    members = cast("Manifest", item)
    below: list[Fields] = []
    found: Any = None
    for fields in owned:
        for key, child in fields.items():
            if key[:2] != "k:":
                continue
            keys = _parsed(key)
            if is_item(members, keys):
                if not child:
                    return True  # a leaf: the item is atomic, as an ownerReference is
                below.append(child)
                found = _find(live, keys)
    return bool(below) and _members_covered(members, below, found)


@lru_cache(maxsize=1024)
def _parsed(key: str) -> Mapping[str, Any]:
    """Return what a `k:` of managedFields names, such as {"name": "http"}. The same few names come again and again."""
    return json.loads(key[2:])


def _find(live: Any, keys: Mapping[str, Any]) -> Any:
    """Return the item of the list ``live`` that ``keys`` name, None without one."""
    for item in cast("list[Any]", live or []):
        if is_item(item, keys):
            return item
    return None


def contains(live: Any, ours: Any) -> bool:
    """Tell whether ``live`` says what ``ours`` says. It may say more: the server adds defaults."""
    if isinstance(ours, dict):
        return isinstance(live, dict) and all(
            contains(cast("Manifest", live).get(key), value) for key, value in cast("Manifest", ours).items()
        )
    if isinstance(ours, list):
        mine, found = cast("list[Any]", ours), cast("list[Any]", live) if isinstance(live, list) else []
        return len(mine) == len(found) and all(map(contains, found, mine))
    return live == ours or _same_quantity(live, ours) or not (live or ours)


def _same_quantity(live: Any, ours: Any) -> bool:
    try:
        return parse_quantity(live) == parse_quantity(ours)
    except ValueError:
        return False


def is_item(item: Any, keys: Mapping[str, Any]) -> bool:
    """Tell whether ``keys``, such as {"name": "http"}, name this item of a keyed list."""
    if not isinstance(item, dict):
        return False
    members = cast("Manifest", item)
    for key, value in keys.items():  # noqa: SIM110
        if members.get(key) != value:
            return False
    return True


_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ports": ("containerPort", "port", "protocol"),  # a container's have the first, a Service's the second
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""The keyed lists in what we render, and their keys (`x-kubernetes-list-map-keys`). All others are atomic."""


def item_keys(member: str, item: Any) -> dict[str, Any]:
    """Return the keys of an item of the list ``member``; none for an atomic list."""
    return {key: cast("Manifest", item)[key] for key in _KEYS.get(member, ()) if isinstance(item, dict) and key in item}


def foreign_items(live: Manifest, manifest: Manifest) -> Iterator[Path]:
    """Yield the path in ``live`` of each item that somebody else put into a keyed list of ours."""
    return _foreign(live.get("spec"), manifest.get("spec"), ("spec",))


def _foreign(live: Any, manifest: Any, path: Path) -> Iterator[Path]:
    if isinstance(manifest, dict) and isinstance(live, dict):
        ours, theirs = cast("Manifest", manifest), cast("Manifest", live)
        for key, value in ours.items():
            if key in theirs:
                yield from _foreign(theirs[key], value, (*path, key))
    elif isinstance(manifest, list) and isinstance(live, list):
        member = str(path[-1])
        for index, item in enumerate(cast("list[Any]", live)):
            keys = item_keys(member, item)
            if not keys:
                return  # atomic: who changes a part of it takes the whole, and it is missed
            ours = next((mine for mine in cast("list[Any]", manifest) if is_item(mine, keys)), None)
            if ours is None:
                yield (*path, index)
            else:
                yield from _foreign(item, ours, (*path, index))


_TRUE_WHEN_ABSENT = frozenset({"allowPrivilegeEscalation", "automountServiceAccountToken", "enableServiceLinks"})
"""Taking these away means true, so that our false is gone with them."""


def set_although_ours_is_empty(live: Any, manifest: Any, member: str = "") -> bool:
    """Tell whether ``live`` has a value where ``manifest`` says false, zero or nothing.

    ``member`` is the name under which the two were found.
    """
    if isinstance(manifest, dict):
        theirs = cast("Manifest", live) if isinstance(live, dict) else Manifest()
        for key, value in cast("Manifest", manifest).items():
            if isinstance(value, (dict, list)):
                if set_although_ours_is_empty(theirs.get(key), value, key):
                    return True
            elif _is_empty(value) and _is_set(key, theirs.get(key)):
                return True
    elif isinstance(manifest, list):
        for item in cast("list[Any]", manifest):
            keys = item_keys(member, item)
            if keys and set_although_ours_is_empty(_find(live, keys), item):
                return True
    return False


def _is_empty(value: Any) -> bool:
    return value is False or value == 0 or value == ""


def _is_set(key: str, value: Any) -> bool:
    return bool(value) or (value is None and key in _TRUE_WHEN_ABSENT)
