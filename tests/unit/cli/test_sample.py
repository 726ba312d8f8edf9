"""The example of a typed input that `run` shows."""

from typing import Any

import jsonschema
import pytest

from agentservice_cli.local.sample import question, sample

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"type": "string"}},
    },
    {"type": "object", "required": ["p"], "properties": {"p": {"enum": ["high", "low"]}}},
    {"type": "object", "required": ["p"], "properties": {"p": {"type": "string", "default": "x"}}},
    {
        "type": "object",
        "required": ["o", "l", "t", "n"],
        "properties": {
            "o": {"type": "object", "required": ["deep"], "properties": {"deep": {"type": "boolean"}}},
            "l": {"type": "array", "minItems": 1, "items": {"type": "number"}},
            "t": {"type": ["string", "null"]},
            "n": {"type": "null"},
        },
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_example_fits_its_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(sample(schema), schema)


def test_only_what_is_required_is_in_it_and_it_can_be_pasted_into_a_shell() -> None:
    assert question(SCHEMAS[0]) == """--input '{"a": 3}'"""
    assert question(None) == '"Hello"'


def test_what_the_author_gives_as_default_or_example_is_taken() -> None:
    assert sample({"type": "string", "default": "x", "enum": ["y"]}) == "x"
    assert sample({"type": "string", "examples": ["e"]}) == "e"


def test_a_schema_that_says_nothing_or_refers_to_itself_is_no_failure() -> None:
    endless: dict[str, Any] = {"type": "object", "required": ["again"], "properties": {}}
    endless["properties"]["again"] = endless
    assert sample(endless)
    assert sample({}) == "text"
