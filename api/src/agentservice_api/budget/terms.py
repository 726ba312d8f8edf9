"""Decides the terms of a budget that are in force now: what the operator writes into AgentLedger.spec.

The same terms go into a pod's own configuration where there is no cluster.
"""

from __future__ import annotations

from typing import Final

from agentservice_api.budget.amount import nano_from_usd
from agentservice_api.budget.ledger import LedgerSpec, ModelPrice, WindowLimit
from agentservice_api.budget.model_names import identity
from agentservice_api.budget.price_book import SOURCE, PriceBook, model_price
from agentservice_api.budget.windows import WindowName
from agentservice_api.spec import AgentServiceSpec, ModelChoice, WindowBudget

SPEC_SOURCE: Final = "spec"
"""Source of a price that stands in the AgentService."""


def ledger_spec(spec: AgentServiceSpec, *, price_book: PriceBook | None) -> LedgerSpec:
    """Return the terms. Equal budgets and prices give equal terms, whatever else of ``spec`` changes.

    Raises ValueError without `spec.budget`.
    """
    budget = spec.budget
    if budget is None:
        raise ValueError("spec.budget is not set, so there are no terms")
    windows = ((WindowName.DAILY, budget.daily), (WindowName.MONTHLY, budget.monthly))
    return LedgerSpec(
        time_zone=budget.time_zone,
        enforcement=budget.enforcement,
        windows=tuple(_limit(name, limits) for name, limits in windows if limits is not None),
        prices=_prices(spec, price_book),
    )


def models(spec: AgentServiceSpec) -> tuple[ModelChoice, ...]:
    """Return the models that the specification names. What an entrypoint calls beside them is not known."""
    return tuple(model for _, model in spec.models if model.name)


def may_call_any_model(spec: AgentServiceSpec) -> bool:
    """Tell whether the agent has code of its own, which may call models that the specification does not name."""
    return spec.agent.entrypoint is not None or bool(spec.agent.tools)


def _limit(name: WindowName, limits: WindowBudget) -> WindowLimit:
    return WindowLimit(
        name=name.value,
        tokens=limits.tokens,
        nano_usd=None if limits.cost_usd is None else nano_from_usd(limits.cost_usd),
    )


def _prices(spec: AgentServiceSpec, price_book: PriceBook | None) -> tuple[ModelPrice, ...]:
    named = models(spec)
    found: dict[str, ModelPrice] = {}
    for model in named:
        if model.pricing is not None:
            found.setdefault(identity(model.name), model_price(model.name, model.pricing, source=SPEC_SOURCE))
    if price_book is not None:
        wanted = None if may_call_any_model(spec) else {identity(model.name) for model in named}
        for name, pricing in price_book.prices.items():
            if wanted is None or identity(name) in wanted:
                found.setdefault(identity(name), model_price(name, pricing, source=SOURCE))
    return tuple(found[key] for key in sorted(found))
