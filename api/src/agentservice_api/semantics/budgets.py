"""Decides whether a budget can be kept: a time zone that Python knows, one price a model, nothing billed beside tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agentservice_api.budget.model_names import identity
from agentservice_api.budget.windows import UnknownTimeZone, zone
from agentservice_api.problem import Problem
from agentservice_api.spec import AgentServiceSpec, AgentSpec, Pricing
from agentservice_api.spec.agent import CapabilityName

BILLED_PER_CALL: Final = frozenset({CapabilityName.WEB_SEARCH.value, CapabilityName.WEB_FETCH.value})
"""Capabilities by which a provider bills calls: no bound on tokens bounds their cost."""


def budget_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    """Yield what is wrong with `spec.budget`."""
    budget = spec.budget
    if budget is None:
        return
    try:
        zone(budget.time_zone)
    except UnknownTimeZone as error:
        yield Problem("spec.budget.timeZone", str(error))
    yield from _price_problems(spec)
    if budget.is_hard and budget.limits_money:
        yield from _per_call_problems(spec.agent)


def _price_problems(spec: AgentServiceSpec) -> Iterator[Problem]:
    seen: dict[str, tuple[str, Pricing]] = {}
    for field, model in spec.models:
        if model.pricing is None:
            continue
        first, pricing = seen.setdefault(identity(model.name), (field, model.pricing))
        if pricing != model.pricing:
            yield Problem(
                f"{field}.pricing",
                f"differs from {first.removeprefix('spec.')}.pricing, and both are the same model: a model has one price",
            )


def _per_call_problems(agent: AgentSpec) -> Iterator[Problem]:
    for index, capability in enumerate(agent.capabilities):
        inner = str((capability.settings or {}).get("capability", ""))
        if capability.name.value in BILLED_PER_CALL or any(name in inner for name in BILLED_PER_CALL):
            yield Problem(
                f"spec.agent.capabilities[{index}]",
                "is billed by the call, which a Hard limit in USD cannot bound: remove it, limit tokens instead of costUSD, or choose "
                "enforcement Soft",
            )
