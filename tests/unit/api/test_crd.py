"""The CRD keeps what Kubernetes and the contract ask of it."""

import re
from collections.abc import Iterator
from typing import Any

from agentservice_api.crd import custom_resource_definition
from agentservice_api.spec import AgentServiceSpec

CRD = custom_resource_definition()
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
CEL_1_30 = {
    "has",
    "size",
    "matches",
    "startsWith",
    "contains",
    "all",
    "exists",
    "exists_one",
    "type",
    "double",
    "timestamp",
    "getFullYear",
    "isQuantity",
}
"""Functions that every API server since 1.30 has, and `agentservice_api.strict` too."""


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for key, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def rules() -> Iterator[tuple[str, dict[str, str]]]:
    for path, node in nodes(ROOT):
        for rule in node.get("x-kubernetes-validations", ()):
            yield path, rule


def test_its_names_are_those_that_people_type() -> None:
    assert CRD["metadata"]["name"] == "agentservices.agentservice.dev"
    assert CRD["spec"]["names"] == {
        "kind": "AgentService",
        "listKind": "AgentServiceList",
        "plural": "agentservices",
        "singular": "agentservice",
        "shortNames": ["ags"],
        "categories": ["agents"],
    }


def test_nothing_is_left_that_a_structural_schema_may_not_have() -> None:
    for path, node in nodes(ROOT):
        assert not {"$ref", "$defs", "title", "nullable", "oneOf", "const", "prefixItems"} & node.keys(), path
        assert not ({"properties", "additionalProperties"} <= node.keys()), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_the_api_server_writes_no_default_but_replicas_and_the_fresh_status() -> None:
    defaults = {path: node["default"] for path, node in nodes(ROOT) if "default" in node}
    assert defaults == {".spec.replicas": 1, ".status": {"observedGeneration": -1}}


def test_every_member_is_described() -> None:
    for path, node in nodes(ROOT):
        for key, below in node.get("properties", {}).items():
            assert below.get("description") or key == "metadata", f"{path}.{key}"


def test_no_field_of_a_later_issue_is_in_it() -> None:
    assert set(ROOT["properties"]["spec"]["properties"]) == {
        "agent", "model", "budget", "replicas", "autoscaling", "redis", "postgres", "queue", "cache", "conversations", "errors", "auth", "runtime", "rollout", "network", "observability", "suspend",
    }  # fmt: skip
    assert set(ROOT["properties"]["spec"]["properties"]["model"]["properties"]) == {
        "name", "baseURL", "apiKey", "settings", "pricing", "fallbacks", "retry",
    }  # fmt: skip


def test_the_rules_call_only_what_kubernetes_1_30_knows() -> None:
    for path, rule in rules():
        without_strings = re.sub(r"r?'[^']*'|r?\"[^\"]*\"", "''", rule["rule"])
        called = set(re.findall(r"([A-Za-z_]\w*)\(", without_strings))
        assert called <= CEL_1_30, path


def test_every_rule_says_more_than_that_it_failed() -> None:
    for path, rule in rules():
        assert len(rule["message"]) > 25, path
        assert "\n" not in rule["message"], path


def test_a_rule_points_at_a_field_that_exists() -> None:
    for path, node in nodes(ROOT):
        for rule in node.get("x-kubernetes-validations", ()):
            at = node
            for part in rule.get("fieldPath", "").split(".")[1:]:
                assert part in at["properties"], f"{path}: {rule['fieldPath']}"
                at = at["properties"][part]


def test_the_schema_and_the_types_require_the_same() -> None:
    assert ROOT["properties"]["spec"]["required"] == ["agent", "model"]
    assert [name for name, field in AgentServiceSpec.model_fields.items() if field.is_required()] == ["agent", "model"]
