"""For every legal specification, and for every illegal one: what must hold whatever stands in it."""

import copy
import json
import re
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from agentservice_api import names
from agentservice_api.config import RuntimeConfig, runtime_config
from agentservice_api.defaults import AgentDefaults, apply_defaults
from agentservice_api.openapi import unwrap
from agentservice_api.schema import PreserveUnknownFields
from agentservice_api.semantics import semantic_problems
from agentservice_api.spec import AgentServiceSpec, AgentSpec
from agentservice_api.spec.agent import InputSpec
from agentservice_runtime.template import PromptTemplate, TemplateError

LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "$ref",
        "$defs",
        "items",
        "default",
        "pattern",
        "allOf",
        "additionalProperties",
        "enum",
        "a",
    ]
)
VALUES = st.sampled_from(["object", "string", "#", "#/$defs/a", "#/x", "http://x", "[", "a", True, 0, None])
SCHEMAS = st.recursive(
    VALUES | LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def values(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Build a strategy of plain JSON that the type takes, from the type itself."""
    kind, marks = unwrap(annotation, metadata)
    flat = [part for mark in marks for part in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
    if any(isinstance(mark, PreserveUnknownFields) for mark in flat):
        return st.dictionaries(st.text(max_size=6), JSON, max_size=3)
    most = min([mark.max_length for mark in flat if isinstance(mark, MaxLen)], default=3)
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return st.one_of([values(member) for member in get_args(kind) if member is not type(None)])
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin is tuple:
        least = max([mark.min_length for mark in flat if isinstance(mark, MinLen)], default=0)
        return st.lists(values(get_args(kind)[0]), min_size=least, max_size=min(most, 3))
    if origin is dict:
        return st.dictionaries(st.from_regex(r"\A[a-z]{1,6}\Z"), values(get_args(kind)[1]), max_size=min(most, 3))
    if issubclass(kind, BaseModel):
        return objects(kind)
    if issubclass(kind, Enum):
        return st.sampled_from([member.value for member in kind])
    if kind is bool:
        return st.booleans()
    if kind is int:
        low = max([mark.ge for mark in flat if isinstance(mark, Ge)], default=0)
        high = min([mark.le for mark in flat if isinstance(mark, Le)], default=low + 5)
        return st.integers(low, high)
    constraints = next(mark for mark in flat if isinstance(mark, StringConstraints))
    if constraints.pattern is None:
        return st.text(
            st.characters(codec="utf-8"), min_size=constraints.min_length or 0, max_size=min(constraints.max_length, 24)
        )
    pattern = f"\\A(?:{constraints.pattern.removeprefix('^').removesuffix('$')})\\Z"
    return st.from_regex(pattern, alphabet=st.characters(codec="ascii")).filter(
        lambda text: (constraints.min_length or 0) <= len(text) <= constraints.max_length
    )


def objects(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        strategy = values(field.annotation, tuple(field.metadata))
        (required if field.is_required() else optional)[field.alias or name] = strategy
    found = st.fixed_dictionaries(required, optional=optional)
    return found.map(_one_origin) if model is AgentSpec else found


def _one_origin(agent: dict[str, Any]) -> dict[str, Any]:
    origins = [key for key in ("instructions", "instructionsFrom", "entrypoint") if key in agent]
    kept = {key: value for key, value in agent.items() if key not in origins[1:]}
    return kept if origins else {**kept, "instructions": "Answer briefly."}


SPECS = objects(AgentServiceSpec)


def config_of(spec: AgentServiceSpec) -> RuntimeConfig:
    text = None if spec.agent.instructions_from is None else "from the ConfigMap"
    return runtime_config(name="hello", namespace="team-a", spec=spec, instructions=text, generated_token=None)


@QUICK
@given(SPECS)
def test_a_configuration_survives_the_way_to_the_pod(plain: dict[str, Any]) -> None:
    config = config_of(AgentServiceSpec.model_validate(plain))
    content = config.to_json()
    assert RuntimeConfig.from_json(content) == config
    assert RuntimeConfig.from_json(content).to_json() == content


@QUICK
@given(SPECS, st.randoms())
def test_the_order_in_which_a_specification_is_written_changes_no_byte(plain: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            random.shuffle(items)
            return {key: shuffled(inner) for key, inner in items}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    first = config_of(AgentServiceSpec.model_validate(plain)).to_json()
    assert config_of(AgentServiceSpec.model_validate(shuffled(plain))).to_json() == first


@QUICK
@given(SPECS)
def test_what_the_agent_does_decides_the_name_of_its_config_map(plain: dict[str, Any]) -> None:
    spec = AgentServiceSpec.model_validate(plain)
    content = config_of(spec).to_json()
    longest = "a" * names.MAX_NAME_LENGTH
    name = names.config_map_name(longest, content)
    assert len(name) <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    changed = spec.model_copy(
        update={"agent": spec.agent.model_copy(update={"description": "something else entirely, changed"})}
    )
    assert names.config_map_name(longest, config_of(changed).to_json()) != name


@QUICK
@given(SPECS)
def test_semantics_judge_every_legal_specification(plain: dict[str, Any]) -> None:
    for problem in semantic_problems(AgentServiceSpec.model_validate(plain)):
        assert problem.field.startswith("spec")
        assert problem.message


@settings(QUICK, max_examples=300)
@given(st.dictionaries(KEYWORDS, SCHEMAS, max_size=5), st.text("{}ab. ", max_size=12), JSON)
def test_semantics_never_raise_on_what_stands_in_an_open_object(
    schema: dict[str, Any], text: str, anything: Any
) -> None:
    schema = {"type": "object", **schema}
    extra = anything if isinstance(anything, dict) else {"x": anything}
    spec = AgentServiceSpec.model_validate(
        {
            "agent": {
                "instructions": "x",
                "input": {"schema": schema, **({"promptTemplate": text} if text else {})},
                "outputSchema": schema,
                "capabilities": [{"name": "PrefixTools", "settings": {"prefix": anything, "capability": anything}}],
            },
            "model": {"name": "test", "settings": {"extra": extra}},
            "runtime": {
                "tolerations": [extra],
                "topologySpreadConstraints": [extra],
                "affinity": extra,
                "volumes": [{"name": "v", "configMap": extra, "projected": extra}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": extra}}],
            },
        }
    )
    semantic_problems(spec)


@settings(QUICK, max_examples=300)
@given(st.text("{}ab. !:[]\n", max_size=16))
def test_a_template_is_refused_exactly_when_the_runtime_would_refuse_it(text: str) -> None:
    assume(text)
    agent = {
        "instructions": "x",
        "input": InputSpec.model_validate(
            {"schema": {"type": "object", "properties": {"a": {}, "b": {}}}, "promptTemplate": text}
        ),
    }
    ours = semantic_problems(AgentServiceSpec.model_validate({"agent": agent, "model": {"name": "test"}}))
    try:
        PromptTemplate.parse(text, properties=("a", "b"))
        accepted = True
    except TemplateError:
        accepted = False
    assert accepted == (not ours)


@QUICK
@given(SPECS, objects(AgentDefaults))
def test_merging_the_platforms_defaults_twice_is_merging_them_once(
    plain: dict[str, Any], defaults: dict[str, Any]
) -> None:
    before = copy.deepcopy((plain, defaults))
    once = apply_defaults(plain, defaults)
    assert apply_defaults(once, defaults) == once
    assert (plain, defaults) == before
    AgentServiceSpec.model_validate(once)


@QUICK
@given(SPECS, objects(AgentDefaults))
def test_what_an_agent_says_is_never_taken_away_by_defaults(plain: dict[str, Any], defaults: dict[str, Any]) -> None:
    def holds(own: Any, merged: Any) -> bool:
        if isinstance(own, dict) and isinstance(merged, dict):
            return all(key in merged and holds(value, merged[key]) for key, value in own.items())
        return json.dumps(own, sort_keys=True) == json.dumps(merged, sort_keys=True)

    assert holds(plain, apply_defaults(plain, defaults))


@QUICK
@given(JSON)
def test_a_type_says_no_to_arbitrary_json_and_never_crashes(anything: Any) -> None:
    try:
        AgentServiceSpec.model_validate(anything)
    except ValueError:
        return
    raise AssertionError("nothing arbitrary holds an agent and a model")
