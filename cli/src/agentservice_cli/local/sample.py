"""Decides an example of a typed agent's input, so that a person can copy the first question."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, cast

_MAX_DEPTH = 4


def question(schema: Mapping[str, Any] | None) -> str:
    """Return what to type after `agentservice ask`: a text, or an input that has every required property."""
    if schema is None:
        return '"Hello"'
    return f"--input {shlex.quote(json.dumps(sample(schema), ensure_ascii=False))}"


def sample(schema: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value after a JSON Schema. Types, enums, defaults and lower bounds are kept; finer rules may not be."""
    for known in ("default", "const"):
        if known in schema:
            return schema[known]
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    match _type(schema.get("type")):
        case "object":
            return _object(schema, depth)
        case "array":
            return [sample(_schema(schema.get("items")), depth + 1)] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "text"


def _object(schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth >= _MAX_DEPTH:
        return {}
    properties = _schema(schema.get("properties"))
    return {name: sample(_schema(properties.get(name)), depth + 1) for name in schema.get("required") or ()}


def _type(given: object) -> str:
    """Return the type, the first of several, empty when there is none."""
    several = cast("list[object]", given) if isinstance(given, list) else [given]
    return str(several[0]) if several else ""


def _schema(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
