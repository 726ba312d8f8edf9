"""What only code can judge is judged, and what is legal is left alone."""

from typing import Any

import pytest
import regex

from agentservice_api.semantics import semantic_problems
from agentservice_api.semantics.patterns import pattern_fault
from agentservice_api.spec import AgentService, AgentServiceSpec

TEST = {"name": "test"}


def spec_of(agent: dict[str, Any] | None = None, **parts: Any) -> AgentServiceSpec:
    return AgentServiceSpec.model_validate({"agent": {"instructions": "x", **(agent or {})}, "model": TEST, **parts})


def fields(spec: AgentServiceSpec) -> list[str]:
    return [problem.field for problem in semantic_problems(spec)]


def template(text: str) -> AgentServiceSpec:
    schema = {"type": "object", "properties": {"customer_id": {}, "issue": {}}}
    return spec_of({"input": {"schema": schema, "promptTemplate": text}})


def test_each_manifest_of_the_corpus_has_exactly_its_problem(semantic: Any) -> None:
    problems = semantic_problems(AgentService.model_validate(semantic.manifest).spec)
    assert [problem.field for problem in problems] == [semantic.field]
    assert semantic.says in problems[0].message


def test_a_specification_with_every_field_has_none(full: dict[str, Any]) -> None:
    assert semantic_problems(AgentService.model_validate(full).spec) == ()


@pytest.mark.parametrize(
    "text",
    [
        "{customer_id}",
        "{{x}}",
        "{{}}",
        "no placeholder at all",
        "{{{customer_id}}}",
        "quotes \" ' and 🙂 {issue}",
        "{customer_id}{issue}",
        "{{customer_id.__class__}}",
    ],
)
def test_a_legal_template_has_no_problem(text: str) -> None:
    assert fields(template(text)) == []


@pytest.mark.parametrize(
    "text",
    ["{", "}", "{}", "{ }", "{x}", "{customer_id", "{customer_id[0]}", "{customer_id!r}", "{customer_id:>8}", "{0}"],
)
def test_an_illegal_template_is_refused(text: str) -> None:
    assert set(fields(template(text))) == {"spec.agent.input.promptTemplate"}


def test_every_fault_of_a_template_is_told_at_once_up_to_five() -> None:
    assert len(fields(template("{a} {b} {c} {d} {e} {f} {g}"))) == 5


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": True}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a", "default": "x"}}, "$defs": {"a": {"enum": ["x"]}}},
        {"type": "object", "properties": {"a": {"pattern": r"^\p{L}+$"}}},
        {"type": "object", "properties": {"$ref": {"type": "string"}}, "default": {"$ref": "not a reference"}},
        {"type": "object", "properties": {"a": {"const": {"$ref": "https://example.com"}}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
    ],
)
def test_a_legal_schema_has_no_problem(schema: dict[str, Any]) -> None:
    assert fields(spec_of({"input": {"schema": schema}, "outputSchema": schema})) == []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "object", "required": "a"}, "required"),
        ({"type": "object", "properties": []}, "properties"),
        ({"type": "object", "properties": {"a": 5}}, "properties.a"),
        ({"type": "object", "minProperties": -1}, "minProperties"),
        ({"type": "object", "$dynamicRef": "http://x/#a"}, "$dynamicRef"),
        ({"type": "object", "allOf": [{"$ref": "#/allOf/" + "1" * 5000}]}, "allOf[0].$ref"),
        ({"type": "object", "allOf": [{"$ref": "#/allOf/²"}]}, "allOf[0].$ref"),
        ({"type": "object", "patternProperties": {"[": {}}}, "patternProperties"),
        ({"type": "object", "allOf": [{"$ref": "file:///etc/passwd"}]}, "allOf[0].$ref"),
        (
            {"type": "object", "properties": {"a": {"items": {"default": 1, "type": "string"}}}},
            "properties.a.items.default",
        ),
    ],
)
def test_an_illegal_schema_is_refused_at_its_place(schema: dict[str, Any], field: str) -> None:
    assert fields(spec_of({"outputSchema": schema})) == [f"spec.agent.outputSchema.{field}"]


def test_an_input_may_lead_back_to_itself_because_only_outputs_are_inlined() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert fields(spec_of({"input": {"schema": schema}})) == []
    assert fields(spec_of({"outputSchema": schema})) == ["spec.agent.outputSchema.properties.next.$ref"]


def test_a_very_deep_schema_is_refused_and_not_walked() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(5000):
        schema = {"type": "object", "properties": {"a": schema}}
    assert fields(spec_of({"outputSchema": schema})) == ["spec.agent.outputSchema"]


def test_a_configuration_that_fits_no_config_map_is_refused() -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"description": "x" * 1000} for i in range(1000)}}
    assert fields(spec_of({"outputSchema": schema})) == ["spec.agent"]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\p{L}+$",
        r"(?<year>\d{4})-\d{2}",
        r"(?<=a+)b",
        r"[]{}]{3}",
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"\{{2}",
        "a{,3}",
    ],
)
def test_a_pattern_that_the_runtime_compiles_is_accepted(pattern: str) -> None:
    regex.compile(pattern)
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize("pattern", ["(", "[a", "a)", "*a", "a**", "(?<n>a", "a{2}{3}(", "(" * 4000])
def test_a_pattern_that_the_runtime_does_not_compile_is_refused(pattern: str) -> None:
    with pytest.raises((regex.error, RecursionError)):
        regex.compile(pattern)
    assert pattern_fault(pattern) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{1000}){1000}){1000}",
        "(a{100000}){100000}",
        "a{99999999999999999999}",
        r"(([^]]\w{100}){100}x){100}",
        "a" * 5000,
    ],
)
def test_a_pattern_that_would_take_all_memory_is_refused_without_compiling_it(pattern: str) -> None:
    assert pattern_fault(pattern) is not None


def test_a_schema_of_too_many_parts_is_refused() -> None:
    schema = {"type": "object", "properties": {f"p{i}": {} for i in range(1001)}}
    assert fields(spec_of({"outputSchema": schema})) == ["spec.agent.outputSchema"]


def test_a_circle_of_references_behind_another_reference_is_found() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/c"}}, "c": {"$ref": "#/$defs/b"}},
    }
    assert fields(spec_of({"outputSchema": schema})) == ["spec.agent.outputSchema.$defs.c.$ref"]


@pytest.mark.parametrize("inner", ["WebSearch", {"WebFetch": {}}, {"name": "Thinking", "arguments": None}])
def test_prefix_tools_may_wrap_what_is_allowed(inner: Any) -> None:
    settings = {"prefix": "w", "capability": inner}
    assert fields(spec_of({"capabilities": [{"name": "PrefixTools", "settings": settings}]})) == []


@pytest.mark.parametrize(
    "inner",
    [
        "LocalWorkspace",
        {"MCP": {"url": "http://x"}},
        {"name": "LocalWorkspace"},
        {"WebSearch": {}, "LocalWorkspace": {}},
    ],
)
def test_prefix_tools_may_not_wrap_anything_else(inner: Any) -> None:
    settings = {"prefix": "w", "capability": inner}
    assert fields(spec_of({"capabilities": [{"name": "PrefixTools", "settings": settings}]})) == [
        "spec.agent.capabilities[0].settings.capability"
    ]


@pytest.mark.parametrize(
    "name", ["openai-chat:x", "anthropic:claude", "google:gemini", "bedrock:us.x:v1", "openrouter:a/b"]
)
def test_a_provider_of_the_image_is_accepted(name: str) -> None:
    assert fields(spec_of(model={"name": name})) == []


def test_an_image_of_ones_own_may_have_more_providers_but_no_typo() -> None:
    own = {"image": "acme/support:1"}
    assert fields(spec_of(model={"name": "mistral:large"}, runtime=own)) == []
    assert fields(spec_of(model={"name": "brandnew:x"}, runtime=own)) == []
    assert fields(spec_of(model={"name": "opnai:x"}, runtime=own)) == ["spec.model.name"]


def test_an_empty_model_name_needs_an_entrypoint() -> None:
    assert fields(spec_of(model={"name": ""})) == ["spec.model.name"]
    entrypoint = AgentServiceSpec.model_validate({"agent": {"entrypoint": "a:b"}, "model": {"name": ""}})
    assert semantic_problems(entrypoint) == ()


@pytest.mark.parametrize("key", ["n", "max_tokens", "maxOutputTokens", "service_tier", "model", "stream"])
def test_settings_extra_may_not_decide_what_a_request_costs(key: str) -> None:
    assert fields(spec_of(model={"name": "openai-chat:x", "settings": {"extra": {key: 1}}})) == [
        f"spec.model.settings.extra.{key}"
    ]


@pytest.mark.parametrize(
    "image",
    [
        "a",
        "acme/support",
        "registry.example.com/acme/support:1.2",
        "registry.example.com:5000/support@sha256:" + "0" * 64,
        "localhost/agentservice-runtime:dev",
        "ghcr.io/a__b/c-d:V1",
    ],
)
def test_a_legal_image_is_accepted(image: str) -> None:
    assert fields(spec_of(runtime={"image": image})) == []


@pytest.mark.parametrize(
    "image", ["acme/Support", "a:", "a//b", "a:tag/b:c", "a@sha256:123", "a.", "a" + ":" + "x" * 129]
)
def test_an_illegal_image_is_refused(image: str) -> None:
    assert fields(spec_of(runtime={"image": image})) == ["spec.runtime.image"]


def test_what_the_platforms_defaults_bring_is_judged_together_with_the_rest() -> None:
    merged = spec_of(runtime={"drainTimeoutSeconds": 60}, rollout={"maxSurge": "0%", "maxUnavailable": 0})
    assert fields(merged) == ["spec.runtime.drainTimeoutSeconds", "spec.rollout"]


def test_messages_never_hold_the_value_of_an_environment_variable() -> None:
    canary = "canary-4711"
    spec = spec_of(
        runtime={
            "env": [{"name": "A", "value": canary}, {"name": "B", "valueFrom": {"fieldRef": {}}}],
            "podAnnotations": {"agentservice.dev/x": canary},
            "image": "A",
        }
    )
    problems = semantic_problems(spec)
    assert len(problems) == 3
    assert canary not in str(problems)


def test_a_drain_that_is_shorter_than_a_run_is_right_with_a_queue_to_give_tasks_back_to() -> None:
    redis = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
    short = {"drainTimeoutSeconds": 60}
    assert fields(spec_of(runtime=short, redis=redis, queue={"enabled": True})) == []
    assert fields(spec_of(runtime=short, redis=redis, queue={"enabled": False})) == ["spec.runtime.drainTimeoutSeconds"]
