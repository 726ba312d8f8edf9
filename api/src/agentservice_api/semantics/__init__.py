"""Decides what is wrong with a specification that the API server has accepted: what needs more than a schema and CEL.

Pure, and total: whatever stands in a specification, problems are returned and nothing is raised. The operator turns
them into SpecAccepted=False with the reason InvalidSpec, the command line prints them.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentservice_api.problem import Problem
from agentservice_api.semantics.budgets import budget_problems
from agentservice_api.semantics.capabilities import capability_problems
from agentservice_api.semantics.identity import auth_problems, mcp_problems, secret_problems
from agentservice_api.semantics.json_schemas import json_schema_problems
from agentservice_api.semantics.models import model_problems
from agentservice_api.semantics.network import network_problems
from agentservice_api.semantics.pods import pod_problems
from agentservice_api.semantics.prompts import attribute_problems, prompt_problems
from agentservice_api.semantics.size import size_problems
from agentservice_api.semantics.timing import timing_problems
from agentservice_api.spec import AgentServiceSpec

__all__ = ["Problem", "semantic_problems"]


def semantic_problems(spec: AgentServiceSpec) -> tuple[Problem, ...]:
    """Return every problem, in the order of the specification's fields. Empty: the specification makes sense."""
    return tuple(_problems(spec))


def _problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    oversized = tuple(size_problems(spec))
    yield from oversized
    if not oversized:
        # What is too deep or too large is judged no further: the checks below walk it.
        yield from json_schema_problems(spec.agent)
        yield from prompt_problems(spec.agent)
        yield from attribute_problems(spec.agent, spec.observability)
        yield from capability_problems(spec.agent)
        yield from model_problems(spec)
        yield from budget_problems(spec)
        yield from pod_problems(spec)
    yield from mcp_problems(spec.agent)
    yield from auth_problems(spec.auth)
    yield from secret_problems(spec)
    yield from timing_problems(spec)
    yield from network_problems(spec.network)
