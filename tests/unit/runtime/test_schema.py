"""A value against a schema: places are named, defaults filled in, and nobody can hold the server."""

from __future__ import annotations

import pytest

from agentservice_runtime.schema import AgentSchema

ORDER = {
    "type": "object",
    "required": ["customer_id"],
    "additionalProperties": False,
    "properties": {
        "customer_id": {"type": "integer", "minimum": 1},
        "priority": {"enum": ["normal", "high"], "default": "normal"},
        "items": {"type": "array", "maxItems": 3, "items": {"$ref": "#/$defs/item"}},
        "where": {"type": "object", "default": {}, "properties": {"city": {"type": "string", "default": "Berlin"}}},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
    },
    "allOf": [{"properties": {"channel": {"default": "web"}}}],
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number"}, "count": {"default": 1}}}},
}


def paths(schema, value):
    return [e.path for e in AgentSchema(schema).errors(value, root="input")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"customer_id": 1}, []),
        ({}, ["input.customer_id"]),
        ({"customer_id": "1"}, ["input.customer_id"]),
        ({"customer_id": True}, ["input.customer_id"]),
        ({"customer_id": 0}, ["input.customer_id"]),
        ({"customer_id": 1, "priority": "urgent"}, ["input.priority"]),
        ({"customer_id": 1, "items": [{}, {"price": "x"}]}, ["input.items[1].price"]),
        ({"customer_id": 1, "items": [{}] * 4}, ["input.items"]),
        ({"customer_id": 1, "code": "abc"}, ["input.code"]),
        ({"customer_id": 1, "more": 1, "even": 2}, ["input.more", "input.even"]),
        ([], ["input"]),
    ],
)
def test_each_fault_is_named_by_its_place(value, expected):
    assert paths(ORDER, value) == expected


def test_messages_never_hold_the_value():
    for value in (
        {"customer_id": "canary"},
        {"customer_id": 1, "priority": "canary"},
        {"customer_id": 1, "code": "canary"},
    ):
        assert "canary" not in " ".join(e.message for e in AgentSchema(ORDER).errors(value, root="input"))


def test_at_most_ten_faults_are_told():
    schema = {"type": "object", "additionalProperties": False}
    assert len(paths(schema, {str(i): 1 for i in range(100)})) == 10


def test_defaults_are_filled_in_at_every_depth_and_the_given_is_kept():
    value = {"customer_id": 1, "items": [{"price": 2}, {"count": 5}]}
    filled = AgentSchema(ORDER).with_defaults(value)
    assert filled == {
        "customer_id": 1,
        "priority": "normal",
        "items": [{"price": 2, "count": 1}, {"count": 5}],
        "where": {"city": "Berlin"},
        "channel": "web",
    }
    assert value == {"customer_id": 1, "items": [{"price": 2}, {"count": 5}]}


def test_a_default_is_not_shared_between_requests():
    schema = AgentSchema(ORDER)
    schema.with_defaults({"customer_id": 1})["where"]["city"] = "changed"
    assert schema.with_defaults({"customer_id": 1})["where"] == {"city": "Berlin"}


def test_a_schema_that_contains_itself_is_filled_only_as_deep_as_the_value():
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"default": 0}}, "allOf": [{"$ref": "#"}]}
    assert AgentSchema(tree).with_defaults({"next": {"next": {}}}) == {"next": {"next": {"n": 0}, "n": 0}, "n": 0}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 60 + "!"}),
        ({"patternProperties": {"^(a+)+$": False}, "additionalProperties": False}, {"a" * 60 + "!": 1}),
        ({"propertyNames": {"pattern": "^(a|a)*$"}}, {"a" * 60 + "!": 1}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": i} for i in range(20_000)] + [{"n": 0}]}),
    ],
)
def test_a_hostile_value_is_refused_soon(schema, value):
    # the naive way would need minutes or years: that this ends is what is tested
    assert paths({"type": "object", **schema}, value)


def test_unique_items_follow_json_equality():
    schema = {"type": "object", "properties": {"a": {"uniqueItems": True}}}
    assert paths(schema, {"a": [1, 1.0]}) == ["input.a"]
    assert paths(schema, {"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1}]}) == ["input.a"]
    assert paths(schema, {"a": [1, True, "1", [1], {"x": 1}]}) == []


def test_a_value_deeper_than_the_interpreter_is_a_fault_and_no_crash():
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    value: dict = {}
    for _ in range(3000):
        value = {"next": value}
    assert paths(schema, value) == ["input"]
