"""Decides how plain Kubernetes objects are read: what is absent is empty, never a KeyError.

The API server leaves out what is empty, so absent and empty mean the same in all that is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

Manifest: TypeAlias = dict[str, Any]


def member(value: object, *path: str) -> Any:
    """Return what stands at `path`, None when there is nothing."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(name)
    return value


def part(value: object, *path: str) -> Manifest:
    """Return the mapping at `path`, an empty one when there is none."""
    found = member(value, *path)
    return cast("Manifest", found) if isinstance(found, dict) else {}


def entries(value: object, *path: str) -> list[Manifest]:
    """Return the mappings of the list at `path`."""
    found = member(value, *path)
    return [item for item in cast("list[Any]", found) if isinstance(item, dict)] if isinstance(found, list) else []


def text(value: object, *path: str) -> str:
    """Return the text at `path`, empty when there is none."""
    found = member(value, *path)
    return "" if found is None else str(found)


def number(value: object, *path: str) -> int:
    """Return the whole number at `path`, 0 when there is none."""
    found = member(value, *path)
    return int(found) if isinstance(found, int | str) and found != "" else 0


def is_true(value: object, condition: str) -> bool:
    """Tell whether the status of an object has the condition with the status True."""
    found = entries(value, "status", "conditions")
    return any(c.get("type") == condition and c.get("status") == "True" for c in found)
