"""What the stand-in puts into a structured answer."""

import jsonschema
import pytest
from fill import fill
from hypothesis import given, settings
from hypothesis import strategies as st

SUPPORT = {
    "type": "object",
    "required": ["response", "suggested_actions", "escalated"],
    "properties": {
        "response": {"type": "string"},
        "suggested_actions": {"type": "array", "items": {"type": "string"}},
        "escalated": {"type": "boolean"},
    },
}


def test_a_critical_priority_escalates():
    assert fill(SUPPORT, prompt="Customer 7 (critical): all is down", facts="")["escalated"] is True


def test_a_normal_priority_does_not_escalate():
    assert fill(SUPPORT, prompt="Customer 7 (normal): a typo", facts="")["escalated"] is False


def test_a_text_repeats_what_was_asked_and_what_the_tools_found():
    answer = fill(SUPPORT, prompt="Where is order 12?", facts="it left on Monday")["response"]
    assert "order 12" in answer
    assert "it left on Monday" in answer


def test_an_enum_takes_the_value_that_the_prompt_mentions():
    schema = {"enum": ["region", "product", "month"]}
    assert fill(schema, prompt="revenue by product, please", facts="") == "product"
    assert fill(schema, prompt="revenue", facts="") == "region"


@pytest.mark.parametrize(
    "schema",
    [
        SUPPORT,
        {
            "$defs": {"a": {"type": "integer", "minimum": 3}},
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/a"}},
        },
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2}]},
        {"type": ["null", "string"], "minLength": 300, "maxLength": 301},
        {"allOf": [{"type": "object", "required": ["a"], "properties": {"a": {"const": 4}}}, {"required": ["b"]}]},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 20},
        {"type": "array", "items": {"type": "string"}, "minItems": 5, "maxItems": 5, "uniqueItems": True},
        {"type": "string", "format": "date-time"},
        {
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
            "$ref": "#/$defs/node",
        },
    ],
)
def test_what_is_filled_in_fits_the_schema(schema):
    jsonschema.validate(fill(schema, prompt="critical 99", facts="something"), schema)


@settings(max_examples=50)
@given(
    low=st.integers(-1000, 1000),
    width=st.integers(1, 1000),
    prompt=st.text(max_size=40),
    least=st.integers(0, 5),
    spare=st.integers(0, 5),
)
def test_bounds_hold_whatever_the_prompt_says(low, width, prompt, least, spare):
    schema = {
        "type": "object",
        "required": ["n", "s", "l"],
        "properties": {
            "n": {"type": "integer", "minimum": low, "maximum": low + width},
            "s": {"type": "string", "minLength": least, "maxLength": least + spare},
            "l": {"type": "array", "items": {"type": "boolean"}, "minItems": least, "maxItems": least + spare},
        },
    }
    jsonschema.validate(fill(schema, prompt=prompt, facts=""), schema)
