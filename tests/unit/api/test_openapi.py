"""A Pydantic type becomes a structural schema, or an error that says where it cannot."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field, StringConstraints

from agentservice_api.openapi import SchemaError, json_schema, model_schema
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

Text = Annotated[str, StringConstraints(max_length=8)]


class Colour(StrEnum):
    """A colour."""

    RED = "Red"
    BLUE = "Blue"


class Part(Model):
    """A part."""

    name: Text = Field(description="Its name.")


def schema_of(annotation: Any, **field: Any) -> dict[str, Any]:
    fields = {"thing": (annotation, Field(description="It.", **field))}
    model = type(
        "Owner",
        (Model,),
        {
            "__doc__": "An owner.",
            "__annotations__": {k: v[0] for k, v in fields.items()},
            **{k: v[1] for k, v in fields.items()},
        },
    )
    return model_schema(model)["properties"]["thing"]


def test_an_optional_field_is_the_plain_type_and_not_required() -> None:
    assert schema_of(Text | None, default=None) == {"description": "It.", "type": "string", "maxLength": 8}


def test_a_nested_object_is_inlined_with_what_it_requires() -> None:
    assert schema_of(Part) == {
        "description": "It.",
        "type": "object",
        "properties": {"name": {"description": "Its name.", "type": "string", "maxLength": 8}},
        "required": ["name"],
    }


def test_a_field_without_description_takes_that_of_its_type() -> None:
    class Owner(Model):
        """An owner."""

        part: Part = Part(name="x")

    assert model_schema(Owner)["properties"]["part"]["description"] == "A part."


def test_a_python_default_is_never_written_into_the_schema() -> None:
    assert "default" not in schema_of(Text, default="x")


def test_a_schema_default_is() -> None:
    assert schema_of(Annotated[int, Field(ge=0, le=9), SchemaDefault(1)], default=1) == {
        "description": "It.",
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "maximum": 9,
        "default": 1,
    }


def test_an_enum_lists_its_values() -> None:
    assert schema_of(Colour)["enum"] == ["Red", "Blue"]


def test_a_tuple_is_a_list_with_its_list_type() -> None:
    kind = Annotated[tuple[Part, ...], ListType("map", ("name",)), Field(max_length=4)]
    schema = schema_of(kind, default=())
    assert schema["type"] == "array"
    assert schema["maxItems"] == 4
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["name"]
    assert schema["items"]["required"] == ["name"]


def test_int_or_string_keeps_the_bound_of_its_string() -> None:
    assert schema_of(Annotated[int | Text, IntOrString()]) == {
        "description": "It.",
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
        "maxLength": 8,
    }


def test_an_open_object_preserves_what_is_unknown_and_declares_what_rules_read() -> None:
    schema = schema_of(Annotated[dict[str, Any], PreserveUnknownFields(strings=(("type", "Must be object."),))])
    assert schema["x-kubernetes-preserve-unknown-fields"] is True
    assert schema["properties"] == {"type": {"type": "string", "maxLength": 64, "description": "Must be object."}}


def test_rules_of_types_and_fields_become_validations() -> None:
    class Owner(Model):
        """An owner."""

        rules: ClassVar[tuple[Rule, ...]] = (Rule(rule="self.a != ''", message="a: fill it", field_path=".a"),)
        a: Annotated[Text, Rules((Rule(rule="self != 'x'", message="a is not x"),))] = Field(description="A.")

    schema = model_schema(Owner)
    assert schema["x-kubernetes-validations"] == [{"rule": "self.a != ''", "message": "a: fill it", "fieldPath": ".a"}]
    assert schema["properties"]["a"]["x-kubernetes-validations"] == [{"rule": "self != 'x'", "message": "a is not x"}]


def test_an_explained_pattern_becomes_a_rule_with_its_message_and_plain_json_schema_has_the_pattern_again() -> None:
    kind = Annotated[str, StringConstraints(max_length=8, pattern=r"^\d+'?$"), Explained("write digits")]
    schema = schema_of(kind)
    assert "pattern" not in schema
    assert schema["x-kubernetes-validations"] == [{"rule": 'self.matches(r"^\\d+\'?$")', "message": "write digits"}]
    assert json_schema(schema) == {"description": "It.", "type": "string", "maxLength": 8, "pattern": r"^\d+'?$"}


def test_plain_json_schema_refuses_unknown_members_but_not_in_open_objects() -> None:
    assert json_schema(schema_of(Part))["additionalProperties"] is False
    assert "additionalProperties" not in json_schema(schema_of(Annotated[dict[str, Any], PreserveUnknownFields()]))


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (str, "a string needs a maximum length"),
        (int, "an integer needs a minimum and a maximum"),
        (Annotated[tuple[Text, ...], ListType("set")], "a list needs a maximum length"),
        (Annotated[tuple[Text, ...], Field(max_length=2)], "exactly one ListType"),
        (
            Annotated[tuple[Part, ...], ListType("map", ("nick",)), Field(max_length=2)],
            "must be required or have a default",
        ),
        (tuple[Text, Text], "only tuple"),
        (dict[str, Text], "a map needs a maximum size"),
        (Annotated[int | str, IntOrString()], "an int-or-string needs a maximum length"),
        (float, "has no structural schema"),
        (Text | bool, "has no structural schema"),
        (Annotated[Text, Field(multiple_of=2)], "is not understood"),
    ],
)
def test_what_has_no_bounds_or_no_structural_form_is_an_error_that_names_the_field(
    annotation: Any, complaint: str
) -> None:
    with pytest.raises(SchemaError, match=complaint) as error:
        schema_of(annotation)
    assert ".thing" in str(error.value)


def test_a_field_that_nothing_describes_is_an_error() -> None:
    class Owner(Model):
        """An owner."""

        a: Text

    with pytest.raises(SchemaError, match="no description"):
        model_schema(Owner)
