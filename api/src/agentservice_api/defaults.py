"""Decides what a platform may set once for all agents (the chart's `agentDefaults`), and how it meets an agent's own.

An agent's value always wins: maps are merged key by key, everything else, lists too, is replaced as a whole.
"""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import Field, ValidationError

from agentservice_api.openapi import Schema, json_schema, model_schema
from agentservice_api.problem import Problem
from agentservice_api.schema import Model
from agentservice_api.spec import AuthType, NetworkSpec, ObservabilitySpec, RolloutSpec, RuntimeSpec
from agentservice_api.spec.auth import CallerHeader


class DefaultsError(ValueError):
    """The platform's defaults cannot be used; the text names each key and its mend."""


class AuthDefaults(Model):
    """Who may call an agent that does not say so itself. Tokens are Secrets of one namespace, so they have no default."""

    type: AuthType = Field(default=AuthType.NONE, description="None or BearerToken.")
    caller_header: CallerHeader | None = Field(default=None, description="A header that names the end user.")


class AgentDefaults(Model):
    """Parts of an AgentService's specification that a platform sets once for all agents."""

    auth: AuthDefaults = Field(default=AuthDefaults(), description="Who may call the agent.")
    runtime: RuntimeSpec = Field(default=RuntimeSpec(), description="The pods that run the agent.")
    rollout: RolloutSpec = Field(default=RolloutSpec(), description="How a new revision replaces the old one.")
    network: NetworkSpec = Field(default=NetworkSpec(), description="How the agent is reached.")
    observability: ObservabilitySpec = Field(
        default=ObservabilitySpec(), description="What the agent tells about itself."
    )


def apply_defaults(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with ``defaults`` below what it says; neither is changed or shared.

    Raises DefaultsError that names each unknown or forbidden key and each value of a wrong type in ``defaults``.
    """
    problems = defaults_problems(defaults)
    if problems:
        raise DefaultsError("; ".join(str(problem) for problem in problems))
    return copy.deepcopy(merge_defaults(spec, defaults))


def merge_defaults(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with ``defaults`` below what it says, for who has judged the defaults once and for all.

    Parts of the result are parts of ``spec`` and ``defaults``: change none of it in place.
    """
    return _merge(defaults, spec) if defaults else dict(spec)


def defaults_problems(defaults: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return what is wrong with the platform's defaults; the fields begin with ``agentDefaults``."""
    unknown = tuple(_unknown(defaults, _schema(), "agentDefaults"))
    if unknown:
        return unknown
    try:
        AgentDefaults.model_validate(defaults)
    except ValidationError as error:
        return tuple(
            Problem(_path(problem["loc"]), problem["msg"])
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        )
    return ()


def defaults_json_schema() -> Schema:
    """Return the JSON Schema of `agentDefaults` for the chart's values.schema.json: unknown keys are refused."""
    return json_schema(_schema())


@functools.cache
def _schema() -> Schema:
    """Return the schema of the defaults. Making it takes several milliseconds, which every reconcile would spend."""
    return model_schema(AgentDefaults)


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        low, high = cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", above)
        merged = {key: value for key, value in low.items() if key not in high}
        return merged | {key: _merge(low[key], value) if key in low else value for key, value in high.items()}
    return above


def _unknown(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _unknown(item, schema["items"], f"{path}[{index}]")
    if not isinstance(value, Mapping) or "properties" not in schema:
        return
    known: Mapping[str, Any] = schema["properties"]
    for key, inner in cast("Mapping[str, Any]", value).items():
        if key in known:
            yield from _unknown(inner, known[key], f"{path}.{key}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            near = difflib.get_close_matches(str(key), list(known), n=1)
            mend = f"did you mean {near[0]}?" if near else f"a platform may set {', '.join(known)}"
            yield Problem(f"{path}.{key}", f"is unknown or belongs to each agent alone: {mend}")


def _path(location: tuple[int | str, ...]) -> str:
    return "agentDefaults" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
