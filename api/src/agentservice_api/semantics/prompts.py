"""Decides whether instructions and the prompt template say something that the runtime can use.

The template's language is the runtime's: ``{name}`` is a declared property of the input, ``{{`` and ``}}`` are braces,
everything else is literal.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any, Final, cast

from agentservice_api.problem import Problem
from agentservice_api.spec import AgentSpec, ObservabilitySpec

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{|\}")
_MAX_PROBLEMS: Final = 5
_MAX_SHOWN: Final = 60
_FIELD: Final = "spec.agent.input.promptTemplate"


def prompt_problems(agent: AgentSpec) -> Iterator[Problem]:
    """Yield what is wrong with the instructions, and the first five faults of the prompt template."""
    if agent.instructions is not None and not agent.instructions.strip():
        yield Problem("spec.agent.instructions", "is blank: tell the model what to do")
    if agent.input is None or agent.input.prompt_template is None:
        return
    declared = _declared(agent.input.schema_)
    for message in islice(_template_faults(agent.input.prompt_template, declared=declared), _MAX_PROBLEMS):
        yield Problem(_FIELD, message)


def attribute_problems(agent: AgentSpec, observability: ObservabilitySpec) -> Iterator[Problem]:
    """Yield each chosen attribute of a run's span that is no declared property of the input."""
    declared = () if agent.input is None else _declared(agent.input.schema_)
    known = f"declared: {_short(', '.join(sorted(declared)))}" if declared else "none is declared"
    for index, name in enumerate(observability.input_attributes):
        if name not in declared:
            yield Problem(
                f"spec.observability.inputAttributes[{index}]",
                f"{_short(name)} is no declared property of agent.input.schema ({known}): declare it, or remove the attribute",
            )


def _declared(schema: Mapping[str, Any]) -> Collection[str]:
    properties = schema.get("properties")
    return tuple(cast("dict[str, Any]", properties)) if isinstance(properties, dict) else ()


def _template_faults(template: str, *, declared: Collection[str]) -> Iterator[str]:
    known = f"declared: {_short(', '.join(sorted(declared)))}" if declared else "none is declared"
    for match in _TOKEN.finditer(template):
        token, name, at = match.group(), match.group(1), match.start() + 1
        if token in ("{{", "}}") or (name is not None and name in declared):
            continue
        if name is None:
            yield f"a single {token} at character {at}: write {token * 2} for a brace, or {{name}} for a property of the input"
        elif not name.strip():
            yield f"an empty {{}} at character {at}: write {{{{}}}} for braces, or name a property ({known})"
        elif name.strip() in declared:
            yield f"{{{_short(name)}}} at character {at} holds spaces: write {{{name.strip()}}}"
        elif re.split(r"[.\[!:]", name, maxsplit=1)[0] in declared:
            yield (
                f"{{{_short(name)}}} at character {at} reaches into a property: a template holds names only, no attributes, indexes, "
                "conversions or formats"
            )
        else:
            yield (
                f"{{{_short(name)}}} at character {at} is no declared property of input.schema ({known}): declare it, or write "
                f"{{{{{_short(name)}}}}} for literal braces"
            )


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
