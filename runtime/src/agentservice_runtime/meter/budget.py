"""Decides what a budget's configuration becomes in the process: a ledger, a meter over it, and the cheaper model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agentservice_api import RuntimeConfig
from agentservice_api.config import BudgetConfig
from agentservice_api.spec import OnLedgerUnavailable
from agentservice_runtime.ledger.interface import Ledger
from agentservice_runtime.meter.boundary import metering
from agentservice_runtime.meter.degrade import Degrade
from agentservice_runtime.meter.desk import Desk
from agentservice_runtime.meter.meter import Meter
from agentservice_runtime.meter.observed import Observed
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.model import build_model, model_settings
from agentservice_runtime.secrets import SecretFiles


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The budget of this process."""

    meter: Meter
    degrade: Degrade | None
    needs_ledger: bool
    """Whether the pod is not ready before the ledger has been reached once. Losing it later empties no Service."""

    @property
    def is_open(self) -> bool:
        """Whether requests can be reserved, or go unreserved."""
        return self.meter.desk.is_open or not self.needs_ledger

    @asynccontextmanager
    async def in_force(self) -> AsyncGenerator[None]:
        """Open the ledger and meter all that the process requests; at the end settle and give back what is idle."""
        await self.meter.desk.open()
        try:
            with metering(self.meter):
                yield
        finally:
            await self.meter.desk.close()


def build_budget(config: RuntimeConfig, *, ledger: Ledger, secrets: SecretFiles, metrics: Metrics) -> Budget:
    """Return the budget, not in force yet. Raises ConfigurationRejected."""
    settings = config.budget
    if settings is None:
        raise ValueError("the configuration has no budget")
    serves = settings.on_ledger_unavailable is OnLedgerUnavailable.ALLOW
    meter = Meter(
        Desk(ledger),
        observed=Observed(metrics.registry, agent_name=config.name),
        serves_unreserved=serves,
    )
    return Budget(
        meter=meter,
        degrade=_degrade(config, settings, ledger=ledger, secrets=secrets),
        needs_ledger=not serves,
    )


def _degrade(config: RuntimeConfig, budget: BudgetConfig, *, ledger: Ledger, secrets: SecretFiles) -> Degrade | None:
    chosen = budget.degrade
    if chosen is None:
        return None
    return Degrade(
        model=build_model(chosen.model, secrets=secrets, field="spec.budget.degrade.model"),
        name=chosen.model.name,
        settings=model_settings(chosen.model),
        replaced=frozenset(model_settings(config.model)),
        at_percent=chosen.at_percent,
        view=ledger.view,
    )
