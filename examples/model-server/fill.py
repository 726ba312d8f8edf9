"""Decides which value a JSON Schema's member gets: always valid, and plausible where the member's name says what is meant."""

from __future__ import annotations

import math
import re
from typing import Any

Schema = dict[str, Any]

URGENT = re.compile(r"\bcritical\b", re.IGNORECASE)
"""What makes a yes-or-no member true: the support agent escalates what is critical."""

LISTS = {
    "suggested_actions": [
        "Restart the affected service",
        "Send us the time of the last failure",
        "Watch the status page",
    ],
    "recommendations": ["Keep the best seller in stock", "Ask why the weakest region falls behind"],
}
FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T09:30:00Z",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def fill(schema: Schema, *, prompt: str, facts: str) -> Any:
    """Return a value that ``schema`` accepts.

    ``prompt`` is what the user asked: an enum takes the value that it mentions, a number the number in it. ``facts``
    is what tools have answered: texts repeat it, so that an answer shows where it comes from. Understood are the
    keywords that pydantic and people write: type, enum, const, default, properties, required, items, anyOf, oneOf,
    allOf, $ref into the same schema, format, and the bounds of strings, numbers and arrays. `pattern` is not.
    """
    return _Filler(root=schema, prompt=prompt, facts=facts).value(schema, name="", depth=0)


class _Filler:
    def __init__(self, *, root: Schema, prompt: str, facts: str) -> None:
        self._root = root
        self._prompt = prompt
        self._facts = facts

    def value(self, schema: Schema, *, name: str, depth: int) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema)
        match self._type(schema):
            case "object":
                return self._object(schema, depth=depth)
            case "array":
                return self._array(schema, name=name, depth=depth)
            case "boolean":
                return URGENT.search(self._prompt) is not None
            case "integer" | "number" as kind:
                return self._number(schema, whole=kind == "integer")
            case "null":
                return None
            case _:
                return self._text(schema, name=name)

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" in schema:
            target: Any = self._root
            for part in schema["$ref"].removeprefix("#").strip("/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")] if part else target
            return self._resolved({**target, **{key: value for key, value in schema.items() if key != "$ref"}})
        if "allOf" in schema:
            merged = {key: value for key, value in schema.items() if key != "allOf"}
            for part in map(self._resolved, schema["allOf"]):
                properties = {**part.get("properties", {}), **merged.get("properties", {})}
                required = [*part.get("required", ()), *merged.get("required", ())]
                merged = {**part, **merged, "properties": properties, "required": required}
            return merged
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = {key: value for key, value in schema.items() if key != keyword}
                options = [self._resolved(option) for option in schema[keyword]]
                chosen = next((option for option in options if option.get("type") != "null"), options[0])
                return {**rest, **chosen}
        return schema

    def _type(self, schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return next((str(option) for option in kind if option != "null"), "null")
        if isinstance(kind, str):
            return kind
        return "object" if "properties" in schema else "array" if "items" in schema else "string"

    def _choice(self, schema: Schema) -> Any:
        asked = self._prompt.lower()
        for option in schema["enum"]:
            if isinstance(option, str) and re.search(rf"\b{re.escape(option.lower())}\b", asked):
                return option
        return schema.get("default", schema["enum"][0])

    def _object(self, schema: Schema, *, depth: int) -> dict[str, Any]:
        properties: dict[str, Schema] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        # An optional member may hold its own parent's schema: below a few levels only what must be there is.
        wanted = [name for name in properties if name in required or depth < 3]
        content = {name: self.value(properties[name], name=name, depth=depth + 1) for name in wanted}
        content.update(dict.fromkeys(required - content.keys(), ""))
        return content

    def _array(self, schema: Schema, *, name: str, depth: int) -> list[Any]:
        items: Schema = schema.get("items", {})
        least, most = int(schema.get("minItems", 0)), int(schema.get("maxItems", 100))
        if depth >= 8:
            return [self.value(items, name=name, depth=depth + 1) for _ in range(least)]
        of_texts = self._type(self._resolved(items)) == "string" and "enum" not in self._resolved(items)
        known = LISTS.get(name, ()) if of_texts else ()
        values: list[Any] = [*known] or [self.value(items, name=name, depth=depth + 1)]
        while len(values) < least:
            one_more = self.value(items, name=name, depth=depth + 1)
            values.append(f"{one_more} ({len(values) + 1})" if of_texts else one_more)
        return values[:most]

    def _number(self, schema: Schema, *, whole: bool) -> int | float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        mentioned = re.search(r"-?\d{1,15}", self._prompt)
        value: float = float(schema["default"]) if "default" in schema else float(mentioned[0]) if mentioned else 1.0
        step = 1 if whole else 0.5
        if low is not None:
            value = max(value, low + (step if "exclusiveMinimum" in schema else 0))
        if high is not None:
            value = min(value, high - (step if "exclusiveMaximum" in schema else 0))
        multiple = schema.get("multipleOf")
        if multiple:
            value = math.ceil(value / multiple) * multiple
            value = value - multiple if high is not None and value > high else value
        return int(value) if whole else value

    def _text(self, schema: Schema, *, name: str) -> str:
        if "format" in schema and schema["format"] in FORMATS:
            return FORMATS[schema["format"]]
        if "default" in schema and isinstance(schema["default"], str):
            return schema["default"]
        about = " ".join(self._prompt.split())[:160]
        text = f"{name or 'answer'}: {about}"
        if name == "response":
            text = f"Thank you for writing. About “{about}”: we are looking into it."
        if self._facts:
            text += f" Found: {self._facts[:400]}"
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = text.ljust(least, ".")
        return text if most is None else text[: int(most)]
