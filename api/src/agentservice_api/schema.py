"""Decides how a Pydantic type says what JSON Schema cannot: list types, CEL rules, schema defaults.

The markers stand in ``Annotated[...]`` metadata, rules of an object in its class variable ``rules``;
`agentservice_api.crd` turns both into an OpenAPI v3 structural schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One CEL validation (``x-kubernetes-validations``); ``message`` names the field and the mend."""

    rule: str
    message: str
    field_path: str | None = None


@dataclass(frozen=True)
class ListType:
    """``x-kubernetes-list-type``, with the keys of a ``map``."""

    kind: Literal["map", "set", "atomic"]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """CEL rules of a field that is no object of ours."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Explained:
    """Says a string's `pattern` as a CEL rule with this message: the pattern alone would tell a person too little.

    The length bounds stay in the schema, and an empty string must match the pattern too.
    """

    message: str


@dataclass(frozen=True)
class SchemaDefault:
    """A default that the API server writes into stored objects. Rare: most defaults are applied in code."""

    value: Any


@dataclass(frozen=True)
class IntOrString:
    """``x-kubernetes-int-or-string``."""


@dataclass(frozen=True)
class PreserveUnknownFields:
    """An object whose members are someone else's schema: ``x-kubernetes-preserve-unknown-fields``.

    ``strings`` are the members that our CEL rules read, as (name, description): a rule sees no undeclared member.
    """

    strings: tuple[tuple[str, str], ...] = ()


def camel(name: str) -> str:
    """Return a field's name as the resource writes it: cost_usd is costUSD."""
    return to_camel(name).replace("Usd", "USD")


class Model(BaseModel):
    """A frozen part of a resource, camelCase outside and snake_case inside.

    Unknown fields are ignored: the API server has judged the object already, and an old operator must survive
    the fields of a newer CRD. Where nobody has judged it, `agentservice_api.strict.unknown_fields` does.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=camel, validate_by_name=True, validate_by_alias=True
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # Pydantic copies a field's default for each object that leaves the field out, which was a fifth of a validation's time.
        # What is frozen need not be copied.
        return self
