"""Decides how `agent.input.promptTemplate` becomes the message to the model.

The whole language: ``{name}`` is a declared property of the input, ``{{`` and ``}}`` are braces, everything else is
literal. There is no attribute access, no index, no format and no conversion, so no input and no template can reach
anything but the input's own properties.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

FIELD: Final = "spec.agent.input.promptTemplate"
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{|\}")


class TemplateError(ValueError):
    """The template breaks a rule; the message says which, where, and how to mend it."""


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A parsed template: literal texts and names of properties, in order."""

    parts: tuple[tuple[str, bool], ...]
    """(text, False) is literal, (name, True) is a property."""

    @classmethod
    def parse(cls, text: str, *, properties: Collection[str]) -> PromptTemplate:
        """Parse ``text``. Raises TemplateError."""
        parts: list[tuple[str, bool]] = []
        position = 0
        for match in _TOKEN.finditer(text):
            parts.append((text[position : match.start()], False))
            position = match.end()
            token = match.group()
            if token in ("{{", "}}"):
                parts.append((token[0], False))
            elif match.group(1) is None:
                raise TemplateError(
                    f"a single {token!r} at character {match.start() + 1}: write {token * 2!r} for a brace, or "
                    f"{{name}} for a property of the input"
                )
            else:
                parts.append((_property(match.group(1), at=match.start() + 1, properties=properties), True))
        parts.append((text[position:], False))
        return cls(parts=tuple(part for part in parts if part[0]))

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the message. A property that the input leaves out is an empty text."""
        return "".join(
            _text(values[part]) if is_name and part in values else "" if is_name else part
            for part, is_name in self.parts
        )


def _property(name: str, *, at: int, properties: Collection[str]) -> str:
    if name in properties:
        return name
    known = ", ".join(sorted(properties)) or "none"
    if not name.strip():
        raise TemplateError(f"an empty {{}} at character {at}: write {{{{}}}} for braces, or name a property ({known})")
    raise TemplateError(
        f"{{{name}}} at character {at} is no declared property of the input (declared: {known}); a template holds names "
        f"only, no attributes, indexes or formats; write {{{{{name}}}}} for literal braces"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
