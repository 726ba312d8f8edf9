"""Decides what is known of one model request under way, and what is owed for it when it fails."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models import Model

from agentservice_api.budget import ZERO, Amount
from agentservice_runtime.meter.account import Account
from agentservice_runtime.meter.bound import Bounded
from agentservice_runtime.meter.refusals import Refused
from agentservice_runtime.meter.wire import Expected


@dataclass(slots=True)
class Attempt:
    """One model request, from its reservation to its settlement."""

    id: str
    model: Model[Any]
    account: Account | None
    bounded: Bounded
    output_tokens: int
    """At most, under the cap that it is sent with."""
    bound: Amount
    """What is reserved for it."""
    is_reserved: bool
    expected: Expected | None
    """What the request on the wire must keep to; None where nothing is refused."""
    is_watched: bool
    """Whether the HTTP client tells of each request that leaves."""
    sent: int = 0
    """Requests that have left. More than one: something beneath repeats them."""
    additions: int = 0
    """Further reservations, made while it was being sent."""
    refusal: Refused | None = None
    """Why the wire held it back."""
    is_router: bool = False
    """Whether it has asked another model, whose request is metered for itself."""
    delegated: Amount = ZERO
    """What those requests have cost."""
    is_closed: bool = False


ACTIVE: Final[ContextVar[Attempt | None]] = ContextVar("agentservice_attempt", default=None)
"""The request that the code running now is about to send."""


class Owed(Enum):
    """What a failed request may have cost."""

    NOTHING = auto()
    """It never left, or the provider refused it."""
    INPUT = auto()
    """The provider has read it and made no answer."""
    BOUND = auto()
    """Nobody can tell."""


_REFUSED_STATUS: Final = frozenset({401, 402, 403, 404, 405, 409, 413, 429, 503, 529})
"""The provider did not begin: no provider bills these."""
_REJECTED_STATUS: Final = frozenset({400, 422})
"""Invalid. Azure bills the prompt of what its content filter rejects so."""
_BILLS_REJECTED: Final = frozenset({"azure"})
_BEFORE_SENDING: Final = frozenset({"pool", "connect"})


def owed(error: BaseException, attempt: Attempt) -> Owed:
    """Return what is owed for an attempt that ended in ``error``."""
    if attempt.refusal is not None or attempt.is_router or (attempt.is_watched and not attempt.sent):
        return Owed.NOTHING
    if isinstance(error, ModelHTTPError):
        status = error.status_code
        if status in _REFUSED_STATUS:
            return Owed.NOTHING
        if status in _REJECTED_STATUS:
            return Owed.INPUT if attempt.model.system in _BILLS_REJECTED else Owed.NOTHING
    elif isinstance(error, ModelAPIError) and getattr(error, "phase", None) in _BEFORE_SENDING:
        return Owed.NOTHING
    return Owed.BOUND
