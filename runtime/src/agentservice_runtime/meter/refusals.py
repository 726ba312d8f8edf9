"""Decides what a caller is told when a budget refuses a model request. No figures: they are nobody's who only calls."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from agentservice_runtime.errors import Category, Problem, ServiceError


class Reason(StrEnum):
    """Why a model request was refused: the label ``reason`` of `agentservice_budget_refused_total`."""

    EXHAUSTED = "exhausted"
    """What is left of a window does not suffice until it ends."""
    BUSY = "busy"
    """Only requests in flight stood in the way, for as long as a request waits."""
    UNAVAILABLE = "unavailable"
    """The ledger could not be asked."""
    UNPRICED = "unpriced"
    """The model has no price, and a Hard limit is in US dollars."""
    UNBOUNDED = "unbounded"
    """The request could cost more than can be told beforehand, and the limit is Hard."""


UNAVAILABLE_RETRY_SECONDS: Final = 5.0


class Refused(ServiceError):  # noqa: N818  it is no fault of the request's
    """A model request that was not sent."""

    def __init__(self, reason: Reason, problem: Problem) -> None:
        super().__init__(problem)
        self.reason = reason


def exhausted(*, resets_in: float) -> Refused:
    """The window ends in ``resets_in`` seconds."""
    return Refused(
        Reason.EXHAUSTED,
        Problem(
            status=429,
            title="Budget used up",
            detail="The agent's budget is used up. It begins anew when its window ends: Retry-After says when.",
            category=Category.BUDGET,
            retry_after=max(1.0, resets_in),
        ),
    )


def busy(*, retry_after: float) -> Refused:
    """Asking again may help after ``retry_after`` seconds."""
    return Refused(
        Reason.BUSY,
        Problem(
            status=429,
            title="Budget in use",
            detail="What is left of the agent's budget is held by requests under way. Send the request again.",
            category=Category.BUDGET,
            retryable=True,
            retry_after=max(1.0, retry_after),
        ),
    )


def unavailable() -> Refused:
    """The ledger could not be asked."""
    return Refused(
        Reason.UNAVAILABLE,
        Problem(
            status=503,
            title="Budget cannot be checked",
            detail="The agent's budget cannot be checked now. Send the request again.",
            category=Category.BUDGET,
            retryable=True,
            retry_after=UNAVAILABLE_RETRY_SECONDS,
        ),
    )


def unpriced(model: str) -> Refused:
    """``model`` has no price."""
    return Refused(
        Reason.UNPRICED,
        Problem(
            status=422,
            title="Model without a price",
            detail=f"The model {model[:120]!r} has no price, so the agent's budget in US dollars cannot hold. Set "
            "spec.model.pricing or add it to the price book.",
            category=Category.BUDGET,
        ),
    )


def unbounded(what: str) -> Refused:
    """The request has or sets ``what``."""
    return Refused(
        Reason.UNBOUNDED,
        Problem(
            status=422,
            title="Model request without a bound",
            detail=f"The agent's model request was not sent: with {what[:160]} it may cost more than its budget can "
            "reserve. Take it out, or set spec.budget.enforcement to Soft.",
            category=Category.BUDGET,
        ),
    )


SQUEEZED: Final = Problem(
    status=429,
    title="Budget nearly used up",
    detail="What is left of the agent's budget did not suffice for a complete answer.",
    category=Category.BUDGET,
)
"""In place of "Answer cut off" where the budget, not the agent's settings, made the output cap so small."""
