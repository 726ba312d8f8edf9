"""Decides whether a stored AgentService can be used: platform defaults below it, types, then what only code can judge.

The API server has judged it by schema and CEL already; what arrives here unusable was stored under an older CRD, or
needs more than CEL (a template's placeholders, a JSON Schema). Bad input is never fatal: it becomes a condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agentservice_api import AgentService
from agentservice_api.defaults import merge_defaults
from agentservice_api.semantics import semantic_problems
from agentservice_operator.manifest import Manifest


class SpecError(Exception):
    """The specification cannot be used. The text names each field and its mend."""


def parse(live: Manifest, *, defaults: Mapping[str, Any]) -> AgentService:
    """Return the AgentService, with ``defaults`` (the chart's `agentDefaults`) below what its author wrote.

    ``defaults`` have been judged (`defaults_problems`) by whoever read them. Raises SpecError.
    """
    try:
        resource = AgentService.model_validate({**live, "spec": merge_defaults(live.get("spec") or {}, defaults)})
    except ValidationError as error:
        raise SpecError(_text(error)) from None
    problems = tuple(semantic_problems(resource.spec))
    if problems:
        raise SpecError("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
    return resource


def _text(error: ValidationError) -> str:
    # Without the input: what a person wrote into a wrong field may be a key.
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{_path(problem['loc'])}: {problem['msg']}" for problem in found)


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
