"""Decides whether a value fits a JSON Schema (2020-12) of the agent, and fills in the schema's defaults.

The schema is the agent developer's, the value a stranger's. So nothing is fetched, patterns run under a time limit,
and `uniqueItems` is linear: none of them may hold the server. Messages name the place and the rule, never the value.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

import orjson
import regex
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry

from agentservice_api.semantics.json_schemas import local
from agentservice_runtime.errors import FieldError

_PATTERN_SECONDS: Final = 0.05
_MAX_ERRORS: Final = 10
_MAX_SHOWN: Final = 200
_NOTHING_FETCHED: Final[Any] = cast("Any", Registry)()


class AgentSchema:
    """A schema of `spec.agent`, used for every request."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Take ``schema``, which `agentservice_api.semantics` has found to be one."""
        self.schema: dict[str, Any] = copy.deepcopy(dict(schema))
        self._validator = _Validator(self.schema, registry=_NOTHING_FETCHED)

    def errors(self, value: Any, *, root: str) -> tuple[FieldError, ...]:
        """Return what does not fit, at most ten places; ``root`` is the name of the value itself."""
        found = cast("Iterator[ValidationError]", self._validator.iter_errors(value))
        try:
            return tuple(FieldError(path=_path(root, e), message=_message(e)) for e in islice(found, _MAX_ERRORS))
        except RecursionError:
            return (FieldError(path=root, message="is nested too deeply to be checked"),)

    def with_defaults(self, value: Any) -> Any:
        """Return a copy of ``value`` with the defaults of absent properties filled in, at every depth.

        Defaults under `properties`, `items`, `prefixItems`, `allOf` and local `$ref` count; those inside `anyOf`, `oneOf`
        or `if` do not: which of them applies is not known before the value is complete.
        """
        value = copy.deepcopy(value)
        self._fill(self.schema, value, seen=())
        return value

    def _fill(self, schema: Any, value: Any, *, seen: tuple[int, ...]) -> None:
        if not isinstance(schema, dict) or id(cast("object", schema)) in seen:
            return
        members = cast("dict[str, Any]", schema)
        seen = (*seen, id(members))
        reference = members.get("$ref")
        if isinstance(reference, str):
            self._fill(local(self.schema, reference), value, seen=seen)
        for part in cast("list[Any]", members.get("allOf") or []):
            self._fill(part, value, seen=seen)
        if isinstance(value, dict):
            properties = cast("dict[str, Any]", members.get("properties") or {})
            content = cast("dict[str, Any]", value)
            for name, below in properties.items():
                if name not in content and isinstance(below, dict) and "default" in below:
                    content[name] = copy.deepcopy(cast("dict[str, Any]", below)["default"])
                if name in content:
                    self._fill(below, content[name], seen=())
        elif isinstance(value, list):
            first = cast("list[Any]", members.get("prefixItems") or [])
            for index, item in enumerate(cast("list[Any]", value)):
                self._fill(first[index] if index < len(first) else members.get("items"), item, seen=())


def _matches(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=_PATTERN_SECONDS) is not None
    except TimeoutError:
        # catastrophic backtracking: what cannot be shown to fit does not fit
        return False


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError("does not match")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for key, value in cast("dict[str, Any]", instance).items():
            if _matches(pattern, key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, additional: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    declared = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for key, value in cast("dict[str, Any]", instance).items():
        if key in declared or any(_matches(p, key) for p in patterns):
            continue
        if additional is False:
            yield ValidationError("unknown", path=(key,))
        elif additional is not True:
            yield from validator.descend(value, additional, path=key)


def _required(validator: Any, required: list[str], instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        yield from (ValidationError("missing", path=(name,)) for name in required if name not in instance)


def _unique_items(validator: Any, unique: bool, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        keys = {orjson.dumps(_canonical(item), option=orjson.OPT_SORT_KEYS) for item in cast("list[Any]", instance)}
        if len(keys) != len(cast("list[Any]", instance)):
            yield ValidationError("not unique")


def _canonical(value: Any) -> Any:
    """Return ``value`` with 1.0 as 1, which JSON Schema holds to be equal."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


_Validator: Final = cast("Any", validators).extend(
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "required": _required,
        "uniqueItems": _unique_items,
    },
)


def _path(root: str, error: ValidationError) -> str:
    path = root
    for part in error.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{_short(part)}"
    return path


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


_MESSAGES: Final[dict[str, Callable[[Any], str]]] = {
    "type": lambda v: f"must be of type {v if isinstance(v, str) else ' or '.join(v)}",
    "enum": lambda v: f"must be one of {_short(v)}",
    "const": lambda v: f"must be {_short(v)}",
    "required": lambda _: "is required",
    "additionalProperties": lambda _: "is no declared property: remove it",
    "unevaluatedProperties": lambda _: "holds properties that are not declared: remove them",
    "pattern": lambda v: f"must match the pattern {_short(v)}",
    "minLength": lambda v: f"must have at least {v} characters",
    "maxLength": lambda v: f"must have at most {v} characters",
    "minimum": lambda v: f"must be at least {v}",
    "maximum": lambda v: f"must be at most {v}",
    "exclusiveMinimum": lambda v: f"must be greater than {v}",
    "exclusiveMaximum": lambda v: f"must be less than {v}",
    "multipleOf": lambda v: f"must be a multiple of {v}",
    "minItems": lambda v: f"must have at least {v} items",
    "maxItems": lambda v: f"must have at most {v} items",
    "uniqueItems": lambda _: "must not hold the same item twice",
    "minProperties": lambda v: f"must have at least {v} properties",
    "maxProperties": lambda v: f"must have at most {v} properties",
    "dependentRequired": lambda v: f"lacks properties that others require: {_short(v)}",
    "anyOf": lambda _: "fits none of the allowed forms (anyOf)",
    "oneOf": lambda _: "must fit exactly one of the allowed forms (oneOf)",
    "not": lambda _: "has a form that is excluded (not)",
    "contains": lambda _: "does not hold the required items (contains)",
}


def _message(error: ValidationError) -> str:
    keyword = str(error.validator)
    make = _MESSAGES.get(keyword)
    return make(error.validator_value) if make else f"does not fit the schema's {keyword}"
