"""Decides whether the settings of a capability are those that pydantic-ai's capability of that name takes.

Written from pydantic-ai 2.68's own specification schema (`AgentSpec.model_json_schema_with_capabilities`); a test
compares the two. The settings of a capability must never name another one outside our list, or a manifest could
reach what the list keeps away, such as the pod's files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from agentservice_api.problem import Problem
from agentservice_api.semantics.fit import fault
from agentservice_api.spec import AgentSpec
from agentservice_api.spec.agent import CapabilityName

_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_NAMES: Final = {"type": "array", "items": _TEXT}
_SELECTOR: Final = {"anyOf": [{"const": "all"}, _NAMES, {"type": "object"}]}
_COUNT: Final = {"type": "integer", "minimum": 1}
COMMON: Final[Mapping[str, Any]] = {"id": _TEXT, "description": _TEXT, "defer_loading": _FLAG}

SETTINGS: Final[Mapping[CapabilityName, Mapping[str, Any]]] = {
    CapabilityName.THINKING: {
        "effort": {"anyOf": [_FLAG, {"enum": ["minimal", "low", "medium", "high", "xhigh", "max"]}]}
    },
    CapabilityName.INCLUDE_TOOL_RETURN_SCHEMAS: {"tools": _SELECTOR},
    CapabilityName.TOOL_SEARCH: {
        "strategy": {"enum": ["keywords", "bm25", "regex"]},
        "max_results": _COUNT,
        "tool_description": _TEXT,
        "parameter_description": _TEXT,
    },
    CapabilityName.PREFIX_TOOLS: {"prefix": _TEXT, "capability": {"type": ["string", "object"]}},
    CapabilityName.SET_TOOL_METADATA: {"tools": _SELECTOR},
    CapabilityName.CITATIONS: {},
    CapabilityName.CACHING: {
        "retention": {"anyOf": [_FLAG, {"enum": ["5m", "30m", "1h", "12h"]}]},
        "messages": _FLAG,
    },
    CapabilityName.REINJECT_SYSTEM_PROMPT: {"replace_existing": _FLAG},
    CapabilityName.RAISE_CONTENT_FILTER_ERROR: {},
    CapabilityName.WEB_SEARCH: {
        "native": {"type": ["boolean", "object"]},
        "local": {"anyOf": [_FLAG, {"const": "duckduckgo"}]},
        "search_context_size": {"enum": ["low", "medium", "high"]},
        "user_location": {"type": "object"},
        "blocked_domains": _NAMES,
        "allowed_domains": _NAMES,
        "max_uses": _COUNT,
        "external_web_access": _FLAG,
    },
    CapabilityName.WEB_FETCH: {
        "native": {"type": ["boolean", "object"]},
        "local": _FLAG,
        "allowed_domains": _NAMES,
        "blocked_domains": _NAMES,
        "max_uses": _COUNT,
        "enable_citations": _FLAG,
        "max_content_tokens": _COUNT,
    },
}
"""The settings of each capability as JSON Schemas, beside those that every one takes."""

OPEN: Final = frozenset({CapabilityName.SET_TOOL_METADATA})
"""Takes any further member: the metadata itself."""


def capability_problems(agent: AgentSpec) -> Iterator[Problem]:
    """Yield what is wrong with the settings of the agent's capabilities."""
    for index, capability in enumerate(agent.capabilities):
        yield from _settings_problems(
            capability.name, capability.settings or {}, f"spec.agent.capabilities[{index}].settings"
        )


def _settings_problems(name: CapabilityName, settings: Mapping[str, Any], field: str) -> Iterator[Problem]:
    known = {**SETTINGS[name], **COMMON}
    for key, value in settings.items():
        schema = known.get(key)
        if schema is None:
            if name not in OPEN:
                yield Problem(
                    f"{field}.{key}", f"{name.value} has no such setting; it takes {', '.join(sorted(known))}"
                )
            continue
        found = fault(value, schema, field=f"{field}.{key}")
        if found is not None:
            yield Problem(found[0], f"does not fit {name.value}: {found[1]}")
    if name is CapabilityName.PREFIX_TOOLS:
        yield from _wrapped_problems(settings, field)


def _wrapped_problems(settings: Mapping[str, Any], field: str) -> Iterator[Problem]:
    for key in ("prefix", "capability"):
        if key not in settings:
            yield Problem(f"{field}.{key}", "PrefixTools needs it: {prefix: web, capability: WebSearch}")
    inner = settings.get("capability")
    names: list[str] = []
    if isinstance(inner, str):
        names = [inner]
    elif isinstance(inner, dict):
        # Both the short form {Name: settings} and the long one {name: Name, arguments: ...}.
        members = cast("dict[str, Any]", inner)
        names = [str(members["name"])] if "name" in members else list(members)
    allowed = [member.value for member in CapabilityName if member is not CapabilityName.PREFIX_TOOLS]
    for name in names:
        if name not in allowed:
            yield Problem(f"{field}.capability", f"may not be {name[:60]}: choose one of {', '.join(allowed)}")
