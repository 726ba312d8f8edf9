"""Decides the reference pages: every field of the resource, every condition and reason, from the types themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agentservice_api.budget.ledger import LEDGER_KIND, LedgerSpec, LedgerStatus
from agentservice_api.conditions import ConditionType, Documented, EventReason, Reason
from agentservice_api.crd import ledger_schema, resource_schema
from agentservice_api.names import ANNOTATION_FORGIVE, API_VERSION, KIND, MAX_NAME_LENGTH
from agentservice_api.openapi import unwrap
from agentservice_api.series import OTHER, OperatorSeries, PodSeries, Series
from agentservice_api.spec import AgentServiceSpec

_NOTICE = "<!-- Generated from agentservice_api by `make generate`. Do not edit. -->\n"


def fields_page() -> str:
    """Return docs/reference/agentservice.md."""
    schema = resource_schema()
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    lines = [
        _NOTICE,
        f"# {KIND}, {API_VERSION}",
        "",
        "`kubectl explain ags.spec` says the same. What is not marked required may be left out; a default is applied in",
        "code and never written into your object, except `spec.replicas`, which `/scale` needs. Money and temperatures are",
        "decimal strings, durations are whole seconds.",
        "",
        f"`metadata.name` has at most {MAX_NAME_LENGTH} characters of `a-z`, `0-9` and `-`, begins with a letter and ends",
        "with a letter or digit, so that the names of all that is made from it are legal.",
        "",
        "The smallest legal specification:",
        "",
        "```yaml",
        "spec: {agent: {instructions: Answer briefly.}, model: {name: test}}",
        "```",
    ]
    for key, part in spec["properties"].items():
        field = AgentServiceSpec.model_fields[_attribute(AgentServiceSpec, key)]
        lines += ["", f"## spec.{key}", "", part["description"], ""]
        if "properties" in part:
            lines += _table(_rows(part, f"spec.{key}", unwrap(field.annotation)[0]))
        else:
            lines += _table(iter([_row(f"spec.{key}", part, required=False, default=_default(field))]))
    lines += [
        "",
        "## Rules",
        "",
        "Beside the bounds of single fields, the API server refuses an object that breaks one of",
        "these:",
        "",
    ]
    lines += [f"- `{path or 'metadata'}`: {message}" for path, message in _messages(schema, "")]
    lines += [
        "",
        "What only code can judge (a template's placeholders, a JSON Schema, a capability's settings, an unknown provider,",
        "requests above limits, ...) is accepted by the API server and ends in the condition `SpecAccepted=False`, reason",
        "`InvalidSpec`, whose message names the field and the mend; the last good revision serves on. `agentservice render -f`",
        "and `agentservice run -f` say all of it before anything is applied.",
    ]
    lines += ["", "## status", "", status["description"], ""]
    lines += _table(_rows(status, "status", None))
    return "\n".join(lines) + "\n"


def ledger_page() -> str:
    """Return docs/reference/agentledger.md."""
    schema = ledger_schema()
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    lines = [
        _NOTICE,
        f"# {LEDGER_KIND}, {API_VERSION}",
        "",
        schema["description"],
        "",
        "Each is named as its AgentService. Nobody writes one by hand: `spec` is the operator's, made from the AgentService's",
        "`budget` and prices; `status` is the pods' and the operator's. To return to a window what is presumed spent of it,",
        f"annotate the AgentLedger: `kubectl annotate agl NAME {ANNOTATION_FORGIVE}=daily`.",
        "",
        "## spec",
        "",
        spec["description"],
        "",
        *_table(_rows(spec, "spec", LedgerSpec)),
        "",
        "## status",
        "",
        status["description"],
        "",
        *_table(_rows(status, "status", LedgerStatus)),
        "",
        "## What the API server refuses",
        "",
    ]
    lines += [f"- `{path.lstrip('.')}`: {message}" for path, message in _messages(schema, "")]
    return "\n".join(lines) + "\n"


def conditions_page() -> str:
    """Return docs/reference/conditions.md."""
    lines = [
        _NOTICE,
        "# Conditions, reasons and events",
        "",
        "Scripts and alerts may rely on these words: none is renamed or removed without a deprecation.",
    ]
    for title, kinds in (
        ("Conditions", ConditionType),
        ("Reasons of conditions", Reason),
        ("Further reasons of events", EventReason),
    ):
        lines += ["", f"## {title}", "", "| Name | Meaning |", "|---|---|"]
        members: Iterator[Documented] = iter(kinds)
        lines += [f"| `{member.value}` | {_cell(member.doc)} |" for member in members]
    lines += [
        "",
        "An event of a condition's change carries the condition's reason. Every condition carries `observedGeneration`,",
        "so `kubectl wait --for=condition=Ready` never believes a judgement of an older generation.",
    ]
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Return docs/reference/metrics.md."""
    lines = [
        _NOTICE,
        "# Metrics",
        "",
        "Dashboards and alerts may rely on these names: none is renamed or removed without a deprecation. Seconds are seconds,",
        f"money is US dollars. Labels are bounded; tools and models beyond the first fifty are counted as `{OTHER}`.",
    ]
    for title, kinds in (("Pods of agents", PodSeries), ("The operator", OperatorSeries)):
        lines += [
            "",
            f"## {title}",
            "",
            (kinds.__doc__ or ""),
            "",
            "| Series | Kind | Labels | Meaning |",
            "|---|---|---|---|",
        ]
        members: Iterator[Series] = iter(kinds)
        lines += [f"| `{s.value}` | {s.kind.value} | {', '.join(s.labels)} | {_cell(s.doc)} |" for s in members]
    lines += ["", "Both also tell `process_*`: CPU seconds, memory, open files, start time."]
    return "\n".join(lines) + "\n"


def _table(rows: Iterator[str]) -> list[str]:
    return ["| Field | Type | Default | Meaning |", "|---|---|---|---|", *rows]


def _rows(schema: Mapping[str, Any], path: str, model: Any) -> Iterator[str]:
    required = schema.get("required", ())
    for key, part in schema.get("properties", {}).items():
        field = _field(model, key)
        default = _default(field) if field is not None else ""
        yield _row(f"{path}.{key}", part, required=key in required, default=default)
        inner = unwrap(field.annotation)[0] if field is not None else None
        if "properties" in part:
            yield from _rows(part, f"{path}.{key}", inner)
        elif "properties" in part.get("items", {}):
            yield from _rows(part["items"], f"{path}.{key}[]", _item(inner))


def _row(path: str, schema: Mapping[str, Any], *, required: bool, default: str) -> str:
    shown = "**required**" if required else default
    return f"| `{path}` | {_type(schema)} | {shown} | {_cell(schema['description'])} |"


def _field(model: Any, key: str) -> FieldInfo | None:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return model.model_fields[_attribute(model, key)]
    return None


def _attribute(model: type[BaseModel], key: str) -> str:
    return next(name for name, field in model.model_fields.items() if (field.alias or name) == key)


def _item(kind: Any) -> Any:
    arguments = getattr(kind, "__args__", ())
    return unwrap(arguments[0])[0] if arguments else None


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel) or value in ((), {}, ""):
        return ""
    if isinstance(value, Enum):
        value = value.value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(schema: Mapping[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema["type"])
    if kind == "array":
        return f"list of {_type(schema['items'])}, {_span(schema, 'minItems', 'maxItems')}"
    if kind == "object" and "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}, {_span(schema, 'minProperties', 'maxProperties')}"
    if kind == "string":
        return f"string, {_span(schema, 'minLength', 'maxLength')}"
    if kind == "integer":
        low, high = schema["minimum"], schema["maximum"]
        return f"integer, {low} or more" if high >= 2**31 - 1 else f"integer, {low} to {high}"
    return kind


def _span(schema: Mapping[str, Any], low: str, high: str) -> str:
    unit = "characters" if high == "maxLength" else "entries"
    return f"{schema[low]} to {schema[high]} {unit}" if schema.get(low) else f"at most {schema[high]} {unit}"


def _messages(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for key, part in schema.get("properties", {}).items():
        yield from _messages(part, f"{path}.{key}" if path else key)
    if "items" in schema:
        yield from _messages(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _messages(schema["additionalProperties"], f"{path}{{}}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
