"""Decides whether `input.schema` and `outputSchema` are JSON Schemas (2020-12) that the runtime can work with.

Nothing outside the schema is ever fetched. https://json-schema.org/draft/2020-12/json-schema-core
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, cast

from agentservice_api.problem import Problem
from agentservice_api.semantics.fit import fault, schema_fault, short
from agentservice_api.semantics.patterns import pattern_fault
from agentservice_api.spec import AgentSpec

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BY_NAME: Final = frozenset({"properties", "$defs", "patternProperties", "dependentSchemas", "definitions"})
_DATA: Final = frozenset({"default", "const", "enum", "examples"})
_SIMPLE: Final = (
    "type", "const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties", "required",
)  # fmt: skip
"""Keywords that a default is held against: those whose judgement takes no longer than reading the default."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
MAX_SUBSCHEMAS: Final = 1000
"""Subschemas. The metaschema costs about half a millisecond for each."""

Schema = dict[str, Any]


def json_schema_problems(agent: AgentSpec) -> Iterator[Problem]:
    """Yield what is wrong with the agent's two schemas. They must not be nested too deeply (see `size`)."""
    if agent.input is not None:
        yield from _judged(json.dumps(agent.input.schema_), field="spec.agent.input.schema", inlined=False)
    if agent.output_schema is not None:
        yield from _judged(json.dumps(agent.output_schema), field="spec.agent.outputSchema", inlined=True)


@lru_cache(maxsize=512)
def _judged(text: str, *, field: str, inlined: bool) -> tuple[Problem, ...]:
    """Judge a schema once: it is asked for at every reconcile, and a large one costs half a second."""
    schema: Schema = json.loads(text)
    return tuple(_problems(schema, field)) or (tuple(_recursion(schema, field)) if inlined else ())


def _problems(schema: Schema, field: str) -> Iterator[Problem]:
    count = sum(1 for _ in _nodes(schema, field))
    if count > MAX_SUBSCHEMAS:
        yield Problem(field, f"holds {count} subschemas, at most {MAX_SUBSCHEMAS} are supported: simplify it")
        return
    if str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
        yield Problem(f"{field}.$schema", f"only JSON Schema 2020-12 is supported: remove it or set {DIALECT}")
        return
    if schema.get("type") != "object":
        yield Problem(f"{field}.type", "must be object: put what you have under a property")
    found = schema_fault(schema, field=field)
    if found is not None:
        yield Problem(found[0], f"is not a legal JSON Schema: {found[1]}")
        return
    broken = tuple(problem for path, node in _nodes(schema, field) for problem in _node_problems(schema, node, path))
    yield from broken
    if not broken:
        yield from _unsatisfiable(schema, field)
        for path, node in _nodes(schema, field):
            yield from _default_problems(node, path)


def _node_problems(root: Schema, node: Schema, path: str) -> Iterator[Problem]:
    if path.count(".") > 2 and "$id" in node:
        yield Problem(f"{path}.$id", "a schema with an address of its own is not followed: remove it")
    for keyword in ("$ref", "$dynamicRef"):
        reference = node.get(keyword)
        if not isinstance(reference, str):
            continue
        if not reference.startswith("#"):
            yield Problem(
                f"{path}.{keyword}",
                "only references inside the schema (#/$defs/...) are followed: copy the target into $defs",
            )
        elif reference.startswith("#/") and local(root, reference) is None:
            yield Problem(
                f"{path}.{keyword}", f"there is nothing at {short(reference)}: mend the reference or add it to $defs"
            )
    patterns = [("pattern", node["pattern"])] if isinstance(node.get("pattern"), str) else []
    if isinstance(node.get("patternProperties"), dict):
        patterns += [("patternProperties", pattern) for pattern in cast("Schema", node["patternProperties"])]
    for keyword, pattern in patterns:
        found = pattern_fault(pattern)
        if found is not None:
            yield Problem(f"{path}.{keyword}", short(found))


def _unsatisfiable(schema: Schema, field: str) -> Iterator[Problem]:
    properties = schema.get("properties")
    if schema.get("additionalProperties") is not False or "patternProperties" in schema:
        return
    declared = cast("Schema", properties) if isinstance(properties, dict) else {}
    missing = [name for name in cast("list[Any]", schema.get("required") or []) if name not in declared]
    if missing:
        yield Problem(
            f"{field}.required",
            f"names {short(', '.join(map(str, missing)))}, which properties does not declare while additionalProperties is false, so "
            "nothing could ever fit: declare it or take it out of required",
        )


def _default_problems(node: Schema, path: str) -> Iterator[Problem]:
    if "default" not in node:
        return
    simple = {keyword: node[keyword] for keyword in _SIMPLE if keyword in node}
    found = fault(node["default"], simple, field=f"{path}.default")
    if found is not None:
        yield Problem(found[0], f"does not fit its own schema: {found[1]}")


def _recursion(schema: Schema, field: str) -> Iterator[Problem]:
    """Yield a problem when a `$ref` leads back to itself: pydantic-ai's StructuredDict inlines references."""
    circular = _circular(schema)
    for path, node in _nodes(schema, field):
        if node.get("$ref") in circular:
            yield Problem(
                f"{path}.$ref",
                "leads back to itself: an answer of unbounded depth is not supported, write the levels out",
            )
            return


def _circular(schema: Schema) -> frozenset[str]:
    """Return the references that lie on a circle."""
    edges: dict[str, set[str]] = {}
    pending = list(_references(schema))
    while pending:
        reference = pending.pop()
        if reference not in edges:
            edges[reference] = _references(local(schema, reference))
            pending.extend(edges[reference])
    # What leads nowhere lies on no circle; what then leads nowhere any more neither. The rest does, or leads to one.
    while leaves := {start for start, ends in edges.items() if not ends & edges.keys()}:
        for leaf in leaves:
            del edges[leaf]
    return frozenset(edges)


def _references(schema: Any) -> set[str]:
    return {node["$ref"] for _, node in _nodes(schema, "") if isinstance(node.get("$ref"), str)}


def local(schema: Mapping[str, Any], reference: str) -> Any:
    """Return what the JSON pointer ``#/...`` (RFC 6901) points at, or None."""
    node: Any = schema
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping) and name in node:
            node = cast("Schema", node)[name]
        elif isinstance(node, list) and _INDEX.fullmatch(name) and int(name) < len(cast("list[Any]", node)):
            node = cast("list[Any]", node)[int(name)]
        else:
            return None
    return node


def _nodes(schema: Any, path: str) -> Iterator[tuple[str, Schema]]:
    """Walk the subschemas, not the data (default, const, enum, examples) inside them."""
    pending: list[tuple[str, Any]] = [(path, schema)]
    while pending:
        at, node = pending.pop()
        if isinstance(node, list):
            pending.extend((f"{at}[{index}]", item) for index, item in enumerate(cast("list[Any]", node)))
        if not isinstance(node, dict):
            continue
        members = cast("Schema", node)
        yield at, members
        for keyword, below in members.items():
            if keyword in _DATA:
                continue
            if keyword in _BY_NAME and isinstance(below, dict):
                pending.extend((f"{at}.{keyword}.{name}", inner) for name, inner in cast("Schema", below).items())
            elif isinstance(below, dict | list):
                pending.append((f"{at}.{keyword}", cast("object", below)))
