"""Decides which problem (RFC 9457) a caller is told, whatever went wrong: never an upstream body, a stack or a key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import orjson

from agentservice_runtime.model_failures import ModelFailure, failure_of, innermost

PROBLEM_MEDIA_TYPE: Final = "application/problem+json"


class Category(StrEnum):
    """What kind of failure it was, for callers, logs and metrics alike."""

    RATE_LIMIT = "rate_limit"
    """The model's provider limits the rate of requests."""
    TIMEOUT = "timeout"
    """The run, or something that it waited for, took too long."""
    VALIDATION = "validation"
    """The request, or the model's answer, does not fit its schema."""
    EXTERNAL_SERVICE = "external_service"
    """The model's provider or a tool server failed or refused."""
    INTERNAL = "internal"
    """The agent's own code failed, or this program."""
    BUDGET = "budget"
    """A limit of the run or the agent's budget is used up, or a budget cannot hold for what would be sent."""
    OVERLOADED = "overloaded"
    """This pod has no room for another run, or is stopping."""
    CANCELLED = "cancelled"
    """The run's caller has cancelled it."""


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One place of the input that does not fit: ``path`` such as ``input.items[2].price``."""

    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a caller is told. ``detail`` is safe to show; ``retry_after`` in seconds."""

    status: int
    title: str
    detail: str
    category: Category
    retryable: bool = False
    retry_after: float | None = None
    errors: tuple[FieldError, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    run_id: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document."""
        content: dict[str, Any] = {
            "type": f"urn:agentservice:problem:{self.category}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "category": str(self.category),
            "retryable": self.retryable,
            "retry_after": self.retry_after,
            "run_id": self.run_id,
        }
        if self.errors:
            content["errors"] = [{"path": e.path, "message": e.message} for e in self.errors]
        return content

    def body(self) -> bytes:
        """Return the problem document's bytes."""
        return orjson.dumps(self.document())

    def response_headers(self) -> dict[str, str]:
        """Return the headers that go with the document."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            # whole seconds (RFC 9110), rounded up: earlier is too early
            headers["Retry-After"] = str(max(1, -int(-self.retry_after // 1)))
        if not self.retryable and (self.status in (408, 409, 429) or self.status >= 500):
            # the OpenAI SDKs, and those shaped like them, repeat these unless told not to
            headers["x-should-retry"] = "false"
        return headers

    def with_run(self, run_id: str) -> Problem:
        """Return the same problem of the run ``run_id``."""
        return replace(self, run_id=run_id)


class ServiceError(Exception):
    """Raised anywhere in a request to answer it with ``problem``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def unprocessable(detail: str, *, errors: tuple[FieldError, ...] = ()) -> ServiceError:
    """Return the 422 that says ``detail``, of the fields that ``errors`` name."""
    return ServiceError(
        Problem(status=422, title="Invalid request", detail=detail, category=Category.VALIDATION, errors=errors)
    )


class ClientGone(Exception):  # noqa: N818  nothing failed: nobody listens any more
    """The client has closed the connection; its run is stopped."""


class ConversationTooLong(Exception):  # noqa: N818
    """The run would send more messages to the model than limits.maxConversationMessages."""


INTERNAL: Final = Problem(
    status=500,
    title="Internal error",
    detail="The agent failed. The log has the run id and the kind of the error.",
    category=Category.INTERNAL,
)
STOPPING: Final = Problem(
    status=503,
    title="Stopping",
    detail="This pod is stopping. Send the request again.",
    category=Category.OVERLOADED,
    retryable=True,
    retry_after=1,
)

CANCELLED: Final = Problem(
    status=409,
    title="Run cancelled",
    detail="The run was cancelled by DELETE /v1/runs/ID. What it had used until then is counted.",
    category=Category.CANCELLED,
)

_EXTERNAL_LIBRARIES: Final = frozenset({"mcp", "fastmcp", "httpx", "httpx2", "httpcore", "httpcore2"})
_MAX_RETRY_AFTER: Final = 86_400.0


def classify(error: BaseException) -> Problem:
    """Return what a caller is told about ``error``.

    The table is that of pydantic-ai's own exceptions (its `exceptions` module); `ModelAPIError` subclasses carry the
    provider's category whichever provider it was. Only their types are read, and `retry_after`: never their texts.
    """
    from pydantic_ai import exceptions as ai

    error = innermost(error)
    match error:
        case ServiceError():
            return error.problem
        case ConversationTooLong():
            return _problem(
                429,
                "Conversation too long",
                "The run has more messages than spec.agent.limits.maxConversationMessages.",
                Category.BUDGET,
            )
        case ai.UsageLimitExceeded():
            return _problem(
                429,
                "Run limit reached",
                "The run has used up spec.agent.limits (requests, tool calls or tokens of one run).",
                Category.BUDGET,
            )
        case ai.ConcurrencyLimitExceeded():
            return _problem(503, "Overloaded", "The agent has no room for another run.", Category.OVERLOADED, retry=1)
        case ai.RunTimedOut():
            return _problem(
                504,
                "Run timed out",
                "The run took longer than spec.agent.limits.runTimeoutSeconds.",
                Category.TIMEOUT,
            )
        case ai.RunCancelled() | asyncio.CancelledError():
            # a client that hangs up is ClientGone: what else is cancelled, is so because time to stop is up
            return STOPPING
        case ai.ModelAPIError():
            return _of_model(error)
        case ai.OutputTokenLimitExceeded():
            return _problem(
                502,
                "Answer cut off",
                "The model reached its cap of output tokens before the answer was complete. Raise "
                "spec.model.settings.maxTokens.",
                Category.VALIDATION,
            )
        case ai.ContentFilterError():
            return _problem(422, "Content filtered", "The model's provider filtered the content.", Category.VALIDATION)
        case ai.UnexpectedModelBehavior():
            return _problem(
                502,
                "Unusable answer",
                "The model's answer does not fit what the agent must return, also after its retries.",
                Category.VALIDATION,
            )
        case TimeoutError():
            return _problem(504, "Timed out", "Something that the run waited for took too long.", Category.TIMEOUT)
        case _ if _is_external(error):
            return _problem(
                502,
                "External service failed",
                "A server that the agent depends on failed or could not be reached.",
                Category.EXTERNAL_SERVICE,
                retry=1,
            )
        case _:
            return INTERNAL


def is_cut_off(error: BaseException) -> bool:
    """Tell whether the model's answer reached its output cap before it was complete."""
    from pydantic_ai.exceptions import OutputTokenLimitExceeded

    return isinstance(innermost(error), OutputTokenLimitExceeded)


def _of_model(error: Any) -> Problem:
    problem = _OF_MODEL[failure_of(error)]
    wait = _seconds(error.retry_after)
    return replace(problem, retry_after=wait) if problem.retryable and wait else problem


def _problem(status: int, title: str, detail: str, category: Category, *, retry: float | None = None) -> Problem:
    return Problem(
        status=status, title=title, detail=detail, category=category, retryable=retry is not None, retry_after=retry
    )


_OF_MODEL: Final[dict[ModelFailure, Problem]] = {
    ModelFailure.RATE_LIMITED: _problem(
        429, "Rate limited", "The model's provider limits the rate of requests.", Category.RATE_LIMIT, retry=1
    ),
    ModelFailure.QUOTA: _problem(
        502, "Quota used up", "The agent's quota at the model's provider is used up.", Category.EXTERNAL_SERVICE
    ),
    ModelFailure.REFUSED: _problem(
        502,
        "Refused by the model's provider",
        "The model's provider refused the agent's key. Check the Secret behind spec.model.apiKey.",
        Category.EXTERNAL_SERVICE,
    ),
    ModelFailure.UNKNOWN: _problem(
        502,
        "Unknown model",
        "The model's provider does not know this model. Check spec.model.name and spec.model.baseURL.",
        Category.EXTERNAL_SERVICE,
    ),
    ModelFailure.TOO_LONG: _problem(
        422, "Too long for the model", "The request is longer than the model's context window.", Category.VALIDATION
    ),
    ModelFailure.REJECTED: _problem(
        422,
        "Rejected by the model's provider",
        "The model's provider rejected the request as invalid.",
        Category.VALIDATION,
    ),
    ModelFailure.TIMED_OUT: _problem(
        504, "Model timed out", "The model took too long to answer.", Category.TIMEOUT, retry=1
    ),
    ModelFailure.UNAVAILABLE: _problem(
        503,
        "Model unavailable",
        "The model's provider is overloaded or unavailable.",
        Category.EXTERNAL_SERVICE,
        retry=1,
    ),
    ModelFailure.FAILED: _problem(
        502,
        "Model failed",
        "The model's provider failed, could not be reached, or gave no usable answer.",
        Category.EXTERNAL_SERVICE,
        retry=1,
    ),
}


def _is_external(error: BaseException) -> bool:
    """Tell whether a client library raised ``error`` or what it was raised from.

    An MCP client says RuntimeError when it loses its server, so the place counts beside the type.
    """
    current: BaseException | None = error
    for _ in range(8):
        if current is None:
            return False
        if type(current).__module__.partition(".")[0] in _EXTERNAL_LIBRARIES:
            return True
        trace = current.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in _EXTERNAL_LIBRARIES:
            return True
        current = current.__cause__
    return False


def _seconds(value: float | None) -> float | None:
    return None if value is None or value < 0 else min(value, _MAX_RETRY_AFTER)
