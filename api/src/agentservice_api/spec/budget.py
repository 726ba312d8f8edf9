"""Decides what `spec.budget` may say: limits of a calendar day and month, and what happens at them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from agentservice_api.budget.amount import MAX_UNITS
from agentservice_api.budget.ledger import Enforcement
from agentservice_api.schema import Explained, ListType, Model, Rule, Rules
from agentservice_api.spec.model import ModelChoice

DEFAULT_ALERTS: Final = (80, 95)

CostUSD = Annotated[
    str,
    StringConstraints(max_length=16, pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$"),
    Explained(
        'costUSD is a decimal string of US dollars with at most 6 digits before the point and 9 after it, for instance "25.00"'
    ),
]
"""At most 15 digits, so that a double tells any two of them apart; as nano-USD it stays below 2^53."""

TimeZone = Annotated[
    str,
    StringConstraints(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"),
    Explained("timeZone is the name of an IANA time zone, for instance UTC or Europe/Berlin"),
    Rules(
        (
            # Go takes '' for UTC and 'Local' for the API server's own zone; an unknown one is an error of the rule itself.
            Rule(
                rule="self == 'Local' ? false : !self.matches('^[A-Za-z]') || "
                "timestamp('2026-01-01T00:00:00Z').getFullYear(self) > 0",
                message="timeZone names no time zone of the tz database: write an IANA name, for instance UTC or Europe/Berlin",
            ),
        )
    ),
]


class OnLedgerUnavailable(StrEnum):
    """What becomes of a model request while the ledger cannot be asked."""

    DENY = "Deny"
    """It is refused with 503."""
    ALLOW = "Allow"
    """It is sent, and counted when the ledger is back."""


class LedgerChoice(StrEnum):
    """Where the budget is kept."""

    AUTO = "Auto"
    """Redis when spec.redis is set, else Kubernetes; outside of a cluster else a file."""
    KUBERNETES = "Kubernetes"
    """In slices of the AgentLedger; nothing to install."""
    REDIS = "Redis"
    """In the Redis of spec.redis: in a cluster in chunks of the AgentLedger, outside of one it stands alone."""


class WindowBudget(Model):
    """The limits of one window."""

    tokens: Annotated[int, Field(ge=0, le=MAX_UNITS)] | None = Field(
        default=None,
        description="Tokens at most, input and output together. 0: no request that uses any. Absent: unlimited.",
    )
    cost_usd: CostUSD | None = Field(
        default=None,
        description='US dollars at most, a decimal string such as "25.00". "0": only what costs nothing. Absent: unlimited.',
    )


class Degrade(Model):
    """A cheaper model that takes over near the limit. It spends from the same windows."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="self.model.name != ''",
            message="budget.degrade.model.name is empty: name the cheaper model, for instance openai-chat:gpt-4o-nano",
            field_path=".model.name",
        ),
    )

    at_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        description="From this percentage of any limit on. At 100 percent a Hard limit refuses all the same."
    )
    model: ModelChoice = Field(description="The cheaper model.")


class LedgerSettings(Model):
    """Where the budget is kept."""

    type: LedgerChoice = Field(
        default=LedgerChoice.AUTO,
        description="Auto (default) is Redis when spec.redis is set, else Kubernetes; outside of a cluster (agentservice run) else a file.",
    )


_ONE_OF = "(has(self.{w}) && (has(self.{w}.tokens) || has(self.{w}.costUSD)))"
_BOTH = "!has(self.daily) || !has(self.monthly) || !has(self.daily.{unit}) || !has(self.monthly.{unit}) || "


class BudgetSpec(Model):
    """Limits that hold over all pods and whatever happens to them. Nothing resets a window but its end."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=f"{_ONE_OF.format(w='daily')} || {_ONE_OF.format(w='monthly')}",
            message="budget needs at least one limit: daily.tokens, daily.costUSD, monthly.tokens or monthly.costUSD",
        ),
        Rule(
            rule=_BOTH.format(unit="tokens") + "self.daily.tokens <= self.monthly.tokens",
            message="budget.daily.tokens is more than budget.monthly.tokens: lower it or raise the month's",
            field_path=".daily",
        ),
        Rule(
            # two decimals of at most 15 digits are as doubles in the order that they have as decimals
            rule=_BOTH.format(unit="costUSD") + "double(self.daily.costUSD) <= double(self.monthly.costUSD)",
            message="budget.daily.costUSD is more than budget.monthly.costUSD: lower it or raise the month's",
            field_path=".daily",
        ),
        Rule(
            rule="!has(self.onLedgerUnavailable) || self.onLedgerUnavailable != 'Allow' || "
            "(has(self.enforcement) && self.enforcement != 'Hard')",
            message="budget.onLedgerUnavailable may be Allow only with enforcement Soft or Observe: a Hard limit cannot hold "
            "unseen",
            field_path=".onLedgerUnavailable",
        ),
    )

    enforcement: Enforcement = Field(
        default=Enforcement.HARD,
        description="Hard refuses what does not fit, Soft serves and warns, Observe only counts.",
    )
    time_zone: TimeZone = Field(
        default="UTC", description="The IANA zone whose days and months count, for instance Europe/Berlin."
    )
    daily: WindowBudget | None = Field(default=None, description="Limits of each calendar day.")
    monthly: WindowBudget | None = Field(default=None, description="Limits of each calendar month.")
    alert_at_percent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...], ListType("set"), Field(max_length=8)
    ] = Field(
        default=DEFAULT_ALERTS,
        description="Percentages of a limit; at each an Event is written, once a window, and at the first status.budget is Warning. "
        "Default [80, 95].",
    )
    degrade: Degrade | None = Field(default=None, description="A cheaper model that takes over near the limit.")
    on_ledger_unavailable: OnLedgerUnavailable = Field(
        default=OnLedgerUnavailable.DENY,
        description="What becomes of requests while the ledger cannot be asked. Allow only with Soft and Observe.",
    )
    ledger: LedgerSettings = Field(default=LedgerSettings(), description="Where the budget is kept.")

    @property
    def is_hard(self) -> bool:
        """Whether a limit refuses."""
        return self.enforcement is Enforcement.HARD

    @property
    def limits_money(self) -> bool:
        """Whether any window has a limit in USD."""
        return any(window is not None and window.cost_usd is not None for window in (self.daily, self.monthly))
