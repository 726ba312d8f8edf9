"""Decides what an API server would say of a manifest, without one: unknown fields, bounds, list keys, CEL rules.

It reads the very schema that the CRD carries, so the two cannot drift apart; only the wording of bounds differs. Needs
the extra ``offline``, which brings an evaluator of CEL.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError as SchemaViolation
from pydantic import ValidationError

from agentservice_api.budget.windows import zone
from agentservice_api.crd import resource_schema
from agentservice_api.names import API_VERSION, KIND
from agentservice_api.openapi import Schema
from agentservice_api.problem import Problem
from agentservice_api.quantities import parse_quantity
from agentservice_api.semantics import semantic_problems
from agentservice_api.spec import AgentServiceSpec

__all__ = ["Problem", "check_manifest", "unknown_fields"]

_MAX_SHOWN: Final = 100


def unknown_fields(resource: Mapping[str, Any]) -> list[str]:
    """Return a line for each field that the types do not know: its path and the name that was probably meant."""
    return [str(problem) for problem in _unknown(resource, _schema(), "")]


def check_manifest(resource: Mapping[str, Any]) -> list[Problem]:
    """Return every problem of an AgentService's manifest that can be told without a cluster.

    Semantics are judged only when the API server would accept the manifest, because they need its types. What only
    Kubernetes knows stays open: whether referenced objects exist, quotas, admission policies.
    """
    problems = [*_identity(resource), *_unknown(resource, _schema(), "")]
    violations = list(_violations(resource))
    problems += violations
    problems += _list_keys(resource.get("spec"), _schema()["properties"]["spec"], "spec")
    if not violations:
        # A rule may take the types for granted, as on the API server.
        problems += _broken_rules(_rooted(resource), _schema(), "")
    if problems:
        return problems
    try:
        spec = AgentServiceSpec.model_validate(resource["spec"])
    except ValidationError as error:
        return [
            Problem(f"spec{_path(problem['loc'])}", problem["msg"])
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        ]
    return list(semantic_problems(spec))


@cache
def _schema() -> Schema:
    return resource_schema()


def _identity(resource: Mapping[str, Any]) -> Iterator[Problem]:
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if resource.get(field) != wanted:
            yield Problem(field, f"must be {wanted}")
    metadata = resource.get("metadata")
    if not isinstance(metadata, Mapping) or not cast("Mapping[str, Any]", metadata).get("name"):
        yield Problem("metadata.name", "is missing: name the AgentService")


def _unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _unknown(item, schema["items"], f"{path}[{index}]")
    if not isinstance(value, Mapping) or path == "metadata":
        return
    known: Mapping[str, Any] = schema.get("properties", {})
    for key, inner in cast("Mapping[Any, Any]", value).items():
        field = f"{path}.{key}" if path else str(key)
        if key in known:
            yield from _unknown(inner, known[key], field)
        elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            near = difflib.get_close_matches(str(key), list(known), n=1)
            mend = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            yield Problem(field, f"unknown field; {mend}")


def _violations(resource: Mapping[str, Any]) -> Iterator[Problem]:
    validator = Draft202012Validator(cast("Mapping[str, Any]", _schema()))
    for error in sorted(validator.iter_errors(resource), key=lambda error: [str(part) for part in error.absolute_path]):
        yield _violation(error)


def _violation(error: SchemaViolation) -> Problem:
    field = _path(tuple(error.absolute_path)).lstrip(".")
    wanted = cast("Any", error.validator_value)
    if error.validator == "required":
        missing = next(name for name in wanted if name not in cast("Mapping[str, Any]", error.instance))
        return Problem(f"{field}.{missing}".lstrip("."), "is required")
    if error.validator == "enum":
        return Problem(field, f"must be one of {', '.join(map(str, wanted))}")
    bounds = {
        "maxLength": "must have at most {} characters",
        "minLength": "must have at least {} characters",
        "maxItems": "must have at most {} entries",
        "maxProperties": "must have at most {} entries",
        "minimum": "must be at least {}",
        "maximum": "must be at most {}",
        "type": "must be of type {}",
    }
    said = bounds.get(str(error.validator))
    text = said.format(wanted) if said is not None else error.message[:_MAX_SHOWN]
    return Problem(field, text)


def _list_keys(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        for key, inner in schema.get("properties", {}).items():
            if key in members:
                yield from _list_keys(members[key], inner, f"{path}.{key}")
    if not isinstance(value, list) or "items" not in schema:
        return
    seen: dict[str, int] = {}
    for index, item in enumerate(cast("list[Any]", value)):
        yield from _list_keys(item, schema["items"], f"{path}[{index}]")
        kind = schema.get("x-kubernetes-list-type")
        if kind == "map" and isinstance(item, Mapping):
            key = repr([cast("Mapping[str, Any]", item).get(name) for name in schema["x-kubernetes-list-map-keys"]])
        elif kind == "set":
            key = repr(item)
        else:
            continue
        if seen.setdefault(key, index) != index:
            yield Problem(f"{path}[{index}]", f"stands there twice: it is the same as {path}[{seen[key]}]")


def _rooted(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a rule at the root sees: of the metadata, the name only."""
    metadata = cast("Mapping[str, Any]", resource.get("metadata") or {})
    return {**resource, "metadata": {"name": str(metadata.get("name") or "")}}


def _broken_rules(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value):
            yield Problem((path + rule.get("fieldPath", "")).lstrip(".") or "metadata.name", rule["message"])
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        properties: Mapping[str, Any] = schema.get("properties", {})
        for key, inner in members.items():
            below = properties.get(key)
            if below is None and isinstance(schema.get("additionalProperties"), Mapping):
                below = schema["additionalProperties"]
            if below is not None:
                yield from _broken_rules(inner, below, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _broken_rules(item, schema["items"], f"{path}[{index}]")


def _holds(rule: str, value: Any) -> bool:
    # Here and not above: the package imports a whole terminal toolkit, which costs most commands half a second.
    import cel

    try:
        return cel.evaluate(rule, cel.Context({"self": value}, dict(_FUNCTIONS))) is True
    except (RuntimeError, TypeError, ValueError, KeyError, OverflowError):
        return False  # as on the API server: a rule that cannot be evaluated refuses


def _is_quantity(text: str) -> bool:
    try:
        parse_quantity(text.removeprefix("-"))
    except ValueError:
        return False
    return True


def _full_year(moment: datetime, time_zone: str) -> int:
    """CEL's own timestamp.getFullYear(zone), which the evaluator lacks. Raises UnknownTimeZone, a ValueError."""
    return moment.astimezone(zone(time_zone)).year


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "getFullYear": _full_year,
    "isQuantity": _is_quantity,
}
"""What the API server's CEL has and the evaluator lacks."""


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
