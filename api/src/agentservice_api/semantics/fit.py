"""Decides how far a value is from fitting a JSON Schema: the one fault that tells a person most.

What judges schemas is imported when there is one: most agents have none, and their pods keep what they have imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_MAX_SHOWN: Final = 200


def fault(value: Any, schema: Mapping[str, Any], *, field: str) -> tuple[str, str] | None:
    """Return (field, what is wrong) of the most telling fault, or None when ``value`` fits. Nothing is ever fetched.

    Raises referencing.exceptions.Unresolvable for a `$ref` that leads out of the schema or to nothing in it.
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return _most_telling(Draft202012Validator(schema, registry=Registry()), value, field=field)


def schema_fault(schema: Mapping[str, Any], *, field: str) -> tuple[str, str] | None:
    """Return (field, what is wrong) of a schema that the metaschema of 2020-12 refuses, or None."""
    from jsonschema import Draft202012Validator

    return _most_telling(Draft202012Validator(Draft202012Validator.META_SCHEMA), schema, field=field)


def _most_telling(validator: Draft202012Validator, value: Any, *, field: str) -> tuple[str, str] | None:
    # the library leaves the type of its parameter `key` open
    from jsonschema.exceptions import best_match  # pyright: ignore[reportUnknownVariableType]

    error = cast("ValidationError | None", best_match(validator.iter_errors(value)))
    if error is None:
        return None
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return field + path, short(error.message)


def short(text: str) -> str:
    """Return at most 200 characters of ``text``."""
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
