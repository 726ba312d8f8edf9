"""Decides in which way a model request has failed, whichever provider it was."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, cast


class ModelFailure(Enum):
    """How a model request may fail."""

    RATE_LIMITED = auto()
    QUOTA = auto()
    REFUSED = auto()
    """The key is."""
    UNKNOWN = auto()
    """The provider does not know the model."""
    TOO_LONG = auto()
    REJECTED = auto()
    """The request is invalid to the provider."""
    TIMED_OUT = auto()
    UNAVAILABLE = auto()
    FAILED = auto()
    """Everything else: a server error, no connection, an answer that is none."""


_BY_STATUS: Final = {
    400: ModelFailure.REJECTED,
    401: ModelFailure.REFUSED,
    402: ModelFailure.QUOTA,
    403: ModelFailure.REFUSED,
    404: ModelFailure.UNKNOWN,
    408: ModelFailure.TIMED_OUT,
    422: ModelFailure.REJECTED,
    429: ModelFailure.RATE_LIMITED,
    503: ModelFailure.UNAVAILABLE,
    504: ModelFailure.TIMED_OUT,
    529: ModelFailure.UNAVAILABLE,
}


def failure_of(error: Any) -> ModelFailure:
    """Return the kind of a pydantic-ai `ModelAPIError`: its class where the provider's adapter has judged the answer, else its HTTP status."""
    from pydantic_ai import exceptions as ai

    status = error.status_code if isinstance(error, ai.ModelHTTPError) else None
    match error:
        case ai.ModelRateLimitError():
            return ModelFailure.RATE_LIMITED
        case ai.ModelQuotaExceededError():
            return ModelFailure.QUOTA
        case ai.ModelAuthenticationError():
            return ModelFailure.REFUSED
        case ai.ModelNotFoundError():
            return ModelFailure.UNKNOWN
        case ai.ModelContextWindowExceededError():
            return ModelFailure.TOO_LONG
        case ai.ModelRequestRejectedError():
            return ModelFailure.REJECTED
        case ai.ModelTimeoutError() | ai.ModelRequestTimeout():
            return ModelFailure.TIMED_OUT
        case ai.ModelUnavailableError():
            return ModelFailure.UNAVAILABLE
        case _:
            return _BY_STATUS.get(status or 0, ModelFailure.FAILED)


def innermost(error: BaseException) -> BaseException:
    """Unwrap groups: of a fallback's attempts the last decides, of a task group's the first."""
    for _ in range(16):
        if not isinstance(error, BaseExceptionGroup):
            break
        is_fallback = type(cast("object", error)).__name__ == "FallbackExceptionGroup"
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[-1 if is_fallback else 0]
    return error
