"""Without a cluster, a manifest is judged as the API server would judge it."""

from typing import Any

import pytest

from agentservice_api.crd import custom_resource_definition
from agentservice_api.strict import check_manifest, unknown_fields

SMALLEST: dict[str, Any] = {
    "apiVersion": "agentservice.dev/v1alpha1",
    "kind": "AgentService",
    "metadata": {"name": "hello"},
    "spec": {"agent": {"instructions": "Answer briefly."}, "model": {"name": "test"}},
}
WORDS = {
    "Required value": "is required",
    "Unsupported value": "must be one of",
    "Duplicate value": "stands there twice",
    "should be at least 1 chars long": "must have at least 1 characters",
    "should be greater than or equal to 0": "must be at least 0",
    "should be greater than or equal to 1": "must be at least 1",
    "should be greater than or equal to 5": "must be at least 5",
    "should be less than or equal to 65535": "must be at most 65535",
    "should be less than or equal to 100": "must be at most 100",
    "unknown time zone": "timeZone names no time zone of the tz database",
}
"""How we say what the API server says of bounds; the messages of CEL rules are the same."""


def test_what_the_api_server_refuses_is_told_offline_at_the_same_field(refused: Any) -> None:
    problems = check_manifest(refused.manifest)
    said = WORDS.get(refused.says, refused.says)
    assert [p for p in problems if p.field == refused.field and said in p.message], problems


def test_what_only_code_can_judge_is_told_offline_too(semantic: Any) -> None:
    problems = check_manifest(semantic.manifest)
    assert [problem.field for problem in problems] == [semantic.field]
    assert semantic.says in problems[0].message


def test_a_manifest_with_every_field_has_no_problem(full: dict[str, Any]) -> None:
    assert check_manifest(full) == []
    assert unknown_fields(full) == []


def test_every_rule_of_the_definition_is_one_that_the_evaluator_understands() -> None:
    import cel

    def walk(schema: dict[str, Any]) -> None:
        for rule in schema.get("x-kubernetes-validations", ()):
            cel.compile(rule["rule"])
        for below in schema.get("properties", {}).values():
            walk(below)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                walk(schema[key])

    walk(custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def test_an_unknown_field_is_named_with_the_one_that_was_probably_meant() -> None:
    resource = {**SMALLEST, "spec": {**SMALLEST["spec"], "replica": 2, "runtime": {"env": [{"nam": "A"}]}}}
    assert unknown_fields(resource) == [
        "spec.replica: unknown field; did you mean replicas?",
        "spec.runtime.env[0].nam: unknown field; did you mean name?",
    ]


def test_an_unknown_field_that_resembles_none_is_told_with_those_that_exist() -> None:
    resource = {**SMALLEST, "spec": {**SMALLEST["spec"], "model": {"name": "test", "zzz": 1}}}
    assert unknown_fields(resource) == [
        "spec.model.zzz: unknown field; known here: name, baseURL, apiKey, settings, pricing, fallbacks, retry",
    ]


def test_labels_schemas_and_settings_of_others_have_no_unknown_fields() -> None:
    resource = {
        **SMALLEST,
        "metadata": {"name": "hello", "labels": {"a": "b"}, "finalizers": []},
        "spec": {
            **SMALLEST["spec"],
            "agent": {"instructions": "x", "outputSchema": {"type": "object", "properties": {"replica": {}}}},
            "runtime": {"podLabels": {"replica": "a"}, "affinity": {"anything": {}}},
        },
    }
    assert unknown_fields(resource) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "AgentServce"}, "kind"),
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"metadata": {}}, "metadata.name"),
        ({"spec": None}, "spec"),
        ({"metadata": None}, "metadata"),
    ],
)
def test_a_manifest_that_is_none_of_ours_is_told_so(change: dict[str, Any], field: str) -> None:
    assert field in {problem.field for problem in check_manifest({**SMALLEST, **change})}
