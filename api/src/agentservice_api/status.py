"""Decides the shape of an AgentService's status."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agentservice_api.budget.ledger import Instant, Tokens
from agentservice_api.schema import ListType, Model

Message = Annotated[str, StringConstraints(max_length=32768)]
Generation = Annotated[int, Field(ge=-1, le=2**53 - 1)]
"""The API server reads bounds as doubles: 2^53 - 1 is the largest that it does not round."""
PodCount = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Condition(Model):
    """One condition, after the Kubernetes API conventions."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(description="Which condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="Why, in one word for programs. docs/reference/conditions.md lists them."
    )
    message: Message = Field(default="", description="Why, in a sentence for people: the field, and the mend.")
    last_transition_time: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="", description="When the status last changed (RFC 3339)."
    )
    observed_generation: Generation = Field(default=0, description="The generation that was judged.")


class AuthStatus(Model):
    """Where callers find the generated token."""

    secret_name: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="The Secret with the generated token, under the key `token`."
    )


class BudgetState(StrEnum):
    """How the current windows stand."""

    OK = "OK"
    """Below the first percentage of `budget.alertAtPercent`."""
    WARNING = "Warning"
    """Past it; under Soft and Observe also past a limit."""
    EXHAUSTED = "Exhausted"
    """A Hard limit is reached: requests are refused until the window ends or the limit is raised."""
    UNKNOWN = "Unknown"
    """The AgentLedger is missing or its accounts are not to be trusted yet."""


class WindowStatus(Model):
    """One current window."""

    start: Instant = Field(description="First moment (RFC 3339, UTC).")
    end: Instant = Field(description="First moment after it: when it resets.")
    tokens: Tokens = Field(default=0, description="Tokens spent, those that are presumed spent included.")
    cost_usd: Annotated[str, StringConstraints(max_length=24)] = Field(
        default="0", description="US dollars spent, a decimal string, those that are presumed spent included."
    )
    percent: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None,
        description="Of the limit that is nearest, whole percents rounded down; can pass 100. Absent: no limit.",
    )
    alerted: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="The highest percentage that an Event was written of. Absent: none."
    )
    overran: bool | None = Field(
        default=None, description="Whether a provider billed beyond the limit. Absent: it did not."
    )


class BudgetStatus(Model):
    """What is spent. Written at most once a minute for usage alone; at once when the state changes."""

    state: BudgetState = Field(
        default=BudgetState.UNKNOWN, description="Whether the current windows have something left."
    )
    daily: WindowStatus | None = Field(default=None, description="The current day.")
    monthly: WindowStatus | None = Field(default=None, description="The current month.")


class AgentServiceStatus(Model):
    """What the operator found."""

    observed_generation: Generation | None = Field(
        default=None, description="The generation that the status speaks of; -1 until the first reconcile."
    )
    url: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Where the agent answers in the cluster."
    )
    auth: AuthStatus | None = Field(default=None, description="Where callers find the generated token.")
    replicas: PodCount | None = Field(default=None, description="Pods that exist.")
    ready_replicas: PodCount | None = Field(default=None, description="Pods that are ready.")
    selector: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Label selector of the pods."
    )
    revision: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        default=None, description="The revision that the spec asks for."
    )
    budget: BudgetStatus | None = Field(default=None, description="What is spent of the budget.")
    conditions: Annotated[tuple[Condition, ...], ListType("map", ("type",)), Field(max_length=16)] = Field(
        default=(),
        description="Ready, Reconciling, Stalled, SpecAccepted, SecretsReady, PricesResolved, BudgetAvailable.",
    )
