"""Decides when the cheaper model of `spec.budget.degrade` takes over: past its percentage of any limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models import Model, ModelRequestContext

from agentservice_runtime.ledger.interface import WindowView
from agentservice_runtime.meter.scope import current_account
from agentservice_runtime.model import in_place_of


@dataclass
class Degrade(AbstractCapability[Any]):
    """Passed with every run. It changes the model of the run itself; agents in its tools keep their own."""

    model: Model[Any]
    name: str
    """As the specification has it."""
    settings: Mapping[str, Any]
    """Its settings, which replace those of `spec.model`."""
    replaced: frozenset[str]
    """The names of the latter."""
    at_percent: float
    view: Callable[[], Sequence[WindowView]]

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Choose the model of this request."""
        if not any(window.used_percent >= self.at_percent for window in self.view()):
            return request_context
        account = current_account()
        if account is not None:
            account.served_by = self.name
        settings = in_place_of(request_context.model_settings, replaced=self.replaced, own=self.settings)
        return replace(request_context, model=self.model, model_id=None, model_settings=settings)
