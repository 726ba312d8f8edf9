"""Decides how two versions of an object differ, in lines that a person reads."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from agentservice_api.names import ANNOTATION_INTENT, CONFIG_FILE
from agentservice_cli.cluster.plain import Manifest, part, text
from agentservice_cli.terminal import Tone, to_yaml

_SERVERS_OWN = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_NOISE = (ANNOTATION_INTENT, "deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration")


def essence(manifest: Manifest | None) -> Manifest:
    """Return the object without what the server, or bookkeeping, adds to it. None becomes nothing."""
    if manifest is None:
        return {}
    clean = copy.deepcopy({key: value for key, value in manifest.items() if key != "status"})
    metadata = part(clean, "metadata")
    for key in _SERVERS_OWN:
        metadata.pop(key, None)
    annotations = {k: v for k, v in part(metadata, "annotations").items() if k not in _NOISE}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return clean


def readable(manifest: Manifest) -> Manifest:
    """Return the object with the runtime's configuration unfolded, so that its lines can be compared."""
    content = text(manifest, "data", CONFIG_FILE) if manifest.get("kind") == "ConfigMap" else ""
    if not content:
        return manifest
    return {**manifest, "data": {**manifest["data"], CONFIG_FILE: json.loads(content)}}


def diff(old: Manifest, new: Manifest) -> tuple[str, ...]:
    """Return the lines of a unified diff of the two as YAML, without the file names. Empty: they say the same."""
    sides = readable(old), _in_the_order_of(readable(old), readable(new))
    before, after = (to_yaml(side).splitlines() if side else [] for side in sides)
    lines = list(difflib.unified_diff(before, after, lineterm="", n=2))
    return tuple(lines[2:])


def _in_the_order_of(old: Any, new: Any) -> Any:
    """Return `new` with its members in the order that they have in `old`: the order of a mapping says nothing."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("Manifest", old), cast("Manifest", new)
        return {
            key: _in_the_order_of(before.get(key), after[key])
            for key in (*(key for key in before if key in after), *(key for key in after if key not in before))
        }
    if isinstance(old, list) and isinstance(new, list):
        olds, news = cast("list[Any]", old), cast("list[Any]", new)
        return [_in_the_order_of(olds[i] if i < len(olds) else None, item) for i, item in enumerate(news)]
    return new


def tone_of(line: str) -> Tone:
    """Return how a line of a diff is coloured."""
    return {"+": Tone.GOOD, "-": Tone.BAD, "@": Tone.QUIET}.get(line[:1], Tone.PLAIN)


def paths(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each place where the two differ, as deep as both are mappings."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("Manifest", old), cast("Manifest", new)
        for key in sorted({*before, *after}):
            yield from paths(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and len(cast("Sequence[Any]", old)) == len(cast("Sequence[Any]", new))
    ):
        for index, (a, b) in enumerate(zip(cast("list[Any]", old), cast("list[Any]", new), strict=True)):
            yield from paths(a, b, f"{path}[{index}]")
    elif old != new:
        yield path
