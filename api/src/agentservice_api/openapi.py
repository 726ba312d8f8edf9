"""Decides how a Pydantic type becomes an OpenAPI v3 structural schema that an API server accepts.

The types are walked directly instead of rewriting Pydantic's own JSON Schema: that one has `$ref`, null branches and
titles, which a structural schema must not have (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/
custom-resource-definitions/#specifying-a-structural-schema), and it cannot say list types or CEL. What is not
understood, not described or not bounded is an error here, so that it never reaches a cluster.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import annotated_types
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from agentservice_api.schema import (
    Explained,
    IntOrString,
    ListType,
    Model,
    PreserveUnknownFields,
    Rule,
    Rules,
    SchemaDefault,
)

Schema = dict[str, Any]

_MATCHES = re.compile(r"self\.matches\(r(?P<quote>['\"])(?P<pattern>.*)(?P=quote)\)")
"""What an `Explained` pattern becomes, to find the pattern again."""
_LENGTH = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


class SchemaError(TypeError):
    """A type that has no structural schema, or that lacks a bound or a description; the message has its path."""


def model_schema(model: type[Model], *, path: str = "") -> Schema:
    """Return the schema of an object type. Raises SchemaError with the path of what cannot be expressed."""
    properties: Schema = {}
    required: list[str] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        properties[key] = _field_schema(field, path=f"{path}.{key}")
        if field.is_required():
            required.append(key)
    schema: Schema = {"description": summary(model), "type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if model.rules:
        schema["x-kubernetes-validations"] = [rule_schema(rule) for rule in model.rules]
    return schema


def rule_schema(rule: Rule) -> Schema:
    """Return one entry of `x-kubernetes-validations`."""
    entry: Schema = {"rule": rule.rule, "message": rule.message}
    if rule.field_path is not None:
        entry["fieldPath"] = rule.field_path
    return entry


def cel_string(text: str) -> str:
    """Return ``text`` as a CEL string literal that reads backslashes as they are. It may not hold both kinds of quote."""
    quote = "'" if "'" not in text else '"'
    if quote in text:
        raise SchemaError(f"{text}: holds both kinds of quote, so it cannot stand raw in CEL")
    return f"r{quote}{text}{quote}"


def json_schema(schema: Schema) -> Schema:
    """Return a structural schema as plain JSON Schema, for tools that know no CEL: unknown members are refused."""
    if schema.get("x-kubernetes-int-or-string"):
        plain: Schema = {"type": ["integer", "string"]}
    else:
        plain = {
            key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "default"
        }
    if "properties" in schema:
        plain["properties"] = {key: json_schema(value) for key, value in schema["properties"].items()}
        plain["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            plain[key] = json_schema(schema[key])
    for rule in schema.get("x-kubernetes-validations", ()):
        if (match := _MATCHES.fullmatch(rule["rule"])) is not None:
            plain["pattern"] = match["pattern"]
    return plain


def summary(documented: type[Any]) -> str:
    """Return the whole docstring of a type in one line; empty when it has none of its own."""
    own = documented.__dict__.get("__doc__")
    return " ".join(inspect.cleandoc(own).split()) if own else ""


def unwrap(annotation: Any, metadata: Iterable[Any] = ()) -> tuple[Any, tuple[Any, ...]]:
    """Return the type without ``Annotated`` and ``| None``, and all metadata met on the way, outermost first."""
    found = list(metadata)
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            found.extend(more)
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) == 1:
                annotation = members[0]
                continue
        return annotation, tuple(found)


def _field_schema(field: FieldInfo, *, path: str) -> Schema:
    schema = _type_schema(field.annotation, field.metadata, path=path)
    description = field.description or schema.get("description")
    if not description:
        raise SchemaError(f"{path}: no description; kubectl explain would be silent")
    return {"description": description, **{key: value for key, value in schema.items() if key != "description"}}


def _type_schema(annotation: Any, metadata: Iterable[Any], *, path: str) -> Schema:
    kind, marks = unwrap(annotation, metadata)
    schema = _plain_schema(kind, marks, path=path)
    _constrain(schema, marks, path=path)
    _require_bounds(schema, path=path)
    return schema


def _plain_schema(kind: Any, marks: tuple[Any, ...], *, path: str) -> Schema:
    for mark in marks:
        if isinstance(mark, PreserveUnknownFields):
            schema: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            if mark.strings:
                schema["properties"] = {
                    key: {"type": "string", "maxLength": 64, "description": text} for key, text in mark.strings
                }
            return schema
        if isinstance(mark, IntOrString):
            # The only anyOf that a structural schema takes beside x-kubernetes-int-or-string.
            choice: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
            for member in get_args(kind):
                base, member_marks = unwrap(member)
                if base is str:
                    _constrain(choice, member_marks, path=path)
            return choice
    origin = get_origin(kind)
    if origin is tuple:
        return _list_schema(kind, marks, path=path)
    if origin is dict:
        return _map_schema(kind, path=path)
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if isinstance(kind, type):
        if issubclass(kind, Model):
            return model_schema(kind, path=path)
        if issubclass(kind, BaseModel):
            raise SchemaError(f"{path}: {kind.__name__} does not derive from agentservice_api.schema.Model")
        if issubclass(kind, Enum):
            return {"description": summary(kind), "type": "string", "enum": [member.value for member in kind]}
        if kind is bool:
            return {"type": "boolean"}
        if kind is int:
            return {"type": "integer", "format": "int64"}
        if kind is str:
            return {"type": "string"}
    raise SchemaError(f"{path}: {kind!r} has no structural schema")


def _list_schema(kind: Any, marks: tuple[Any, ...], *, path: str) -> Schema:
    item, *rest = get_args(kind)
    if rest != [...]:
        raise SchemaError(f"{path}: only tuple[X, ...] is a list")
    items = _type_schema(item, (), path=f"{path}[]")
    list_types = [mark for mark in marks if isinstance(mark, ListType)]
    if len(list_types) != 1:
        raise SchemaError(f"{path}: a list needs exactly one ListType")
    schema: Schema = {"type": "array", "items": items, "x-kubernetes-list-type": list_types[0].kind}
    if list_types[0].kind == "map":
        members: Schema = items.get("properties", {})
        missing = {
            key
            for key in list_types[0].keys
            if key not in items.get("required", ()) and "default" not in members.get(key, {})
        }
        if missing or not list_types[0].keys:
            raise SchemaError(f"{path}: the keys of a map list must be required or have a default: {missing}")
        schema["x-kubernetes-list-map-keys"] = list(list_types[0].keys)
    return schema


def _map_schema(kind: Any, *, path: str) -> Schema:
    key, value = get_args(kind)
    if unwrap(key)[0] is not str:
        raise SchemaError(f"{path}: the keys of a map are strings")
    return {"type": "object", "additionalProperties": _type_schema(value, (), path=f"{path}{{}}")}


def _constrain(schema: Schema, marks: Iterable[Any], *, path: str) -> None:
    lengths = _LENGTH.get(schema.get("type", ""), ("minProperties", "maxProperties"))
    if schema.get("x-kubernetes-int-or-string"):
        lengths = _LENGTH["string"]
    for mark in _flat(marks):
        match mark:
            case annotated_types.MinLen(min_length=bound):
                schema[lengths[0]] = bound
            case annotated_types.MaxLen(max_length=bound):
                schema[lengths[1]] = bound
            case annotated_types.Ge(ge=bound):
                schema["minimum"] = bound
            case annotated_types.Le(le=bound):
                schema["maximum"] = bound
            case StringConstraints():
                for key, bound in (
                    ("minLength", mark.min_length),
                    ("maxLength", mark.max_length),
                    ("pattern", mark.pattern),
                ):
                    if bound is not None:
                        schema[key] = bound
            case SchemaDefault(value=default):
                schema["default"] = [*cast("tuple[Any, ...]", default)] if isinstance(default, tuple) else default
            case Rules(rules=rules):
                schema.setdefault("x-kubernetes-validations", []).extend(rule_schema(rule) for rule in rules)
            case Explained(message=message):
                pattern = schema.pop("pattern")
                rule = Rule(rule=f"self.matches({cel_string(pattern)})", message=message)
                schema.setdefault("x-kubernetes-validations", []).append(rule_schema(rule))
            case PreserveUnknownFields() | IntOrString() | ListType():
                pass
            case _:
                raise SchemaError(f"{path}: the mark {mark!r} is not understood")


def _flat(marks: Iterable[Any]) -> Iterable[Any]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from _flat(mark.metadata)
        else:
            yield mark


def _require_bounds(schema: Mapping[str, Any], *, path: str) -> None:
    """Refuse what has no maximum: the API server estimates the cost of a CEL rule from the maxima."""
    kind = schema.get("type")
    if kind == "string" and "enum" not in schema and "maxLength" not in schema:
        raise SchemaError(f"{path}: a string needs a maximum length")
    if kind == "array" and "maxItems" not in schema:
        raise SchemaError(f"{path}: a list needs a maximum length")
    if kind == "object" and "additionalProperties" in schema and "maxProperties" not in schema:
        raise SchemaError(f"{path}: a map needs a maximum size")
    if schema.get("x-kubernetes-int-or-string") and "maxLength" not in schema:
        raise SchemaError(f"{path}: an int-or-string needs a maximum length")
    if kind == "integer" and not {"minimum", "maximum"} <= schema.keys():
        raise SchemaError(f"{path}: an integer needs a minimum and a maximum")
