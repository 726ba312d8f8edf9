"""Every failure has one category, and none shows what failed."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_ai import exceptions as ai

from agentservice_runtime.errors import Category, ConversationTooLong, classify


def ids(value):
    return type(value).__name__ if isinstance(value, BaseException) else str(value)


def grouped(*errors):
    return ExceptionGroup("canary", list(errors))


def caused(error, cause):
    error.__cause__ = cause
    return error


def from_mcp():
    import httpx2

    return httpx2.ConnectError("canary")


CASES = [
    (ai.UsageLimitExceeded("canary"), 429, Category.BUDGET, False),
    (ConversationTooLong(), 429, Category.BUDGET, False),
    (ai.ConcurrencyLimitExceeded("canary"), 503, Category.OVERLOADED, True),
    (ai.ModelHTTPError(429, "m", "canary"), 429, Category.RATE_LIMIT, True),
    (ai.ModelHTTPError(401, "m", "canary"), 502, Category.EXTERNAL_SERVICE, False),
    (ai.ModelHTTPError(404, "m", "canary"), 502, Category.EXTERNAL_SERVICE, False),
    (ai.ModelHTTPError(503, "m", "canary"), 503, Category.EXTERNAL_SERVICE, True),
    (ai.ModelHTTPError(418, "m", "canary"), 502, Category.EXTERNAL_SERVICE, True),
    (ai.ModelAPIError("m", "canary"), 502, Category.EXTERNAL_SERVICE, True),
    (ai.UnexpectedModelBehavior("canary", "canary"), 502, Category.VALIDATION, False),
    (ai.OutputTokenLimitExceeded("canary"), 502, Category.VALIDATION, False),
    (ai.ContentFilterError("canary"), 422, Category.VALIDATION, False),
    (ai.UserError("canary"), 500, Category.INTERNAL, False),
    (KeyError("canary"), 500, Category.INTERNAL, False),
    (RuntimeError("canary"), 500, Category.INTERNAL, False),
    (TimeoutError("canary"), 504, Category.TIMEOUT, False),
    (asyncio.CancelledError("canary"), 503, Category.OVERLOADED, True),
    (from_mcp(), 502, Category.EXTERNAL_SERVICE, True),
    (caused(RuntimeError("canary"), from_mcp()), 502, Category.EXTERNAL_SERVICE, True),
    (grouped(ai.ModelHTTPError(429, "m", "canary")), 429, Category.RATE_LIMIT, True),
    (grouped(grouped(KeyError("canary"))), 500, Category.INTERNAL, False),
]


@pytest.mark.parametrize(("error", "status", "category", "retryable"), CASES, ids=ids)
def test_each_error_has_its_category(error, status, category, retryable):
    problem = classify(error)
    assert (problem.status, problem.category, problem.retryable) == (status, category, retryable)
    assert b"canary" not in problem.body()
    assert (problem.retry_after is not None) == retryable


def test_the_providers_own_retry_after_is_passed_on_and_rounded_up():
    error = ai.ModelHTTPError(429, "m", None, headers={"retry-after-ms": "2200"})
    problem = classify(error)
    assert problem.retry_after == pytest.approx(2.2)
    assert problem.response_headers()["Retry-After"] == "3"


def test_every_model_error_of_pydantic_ai_is_known():
    """A kind that a new version adds must be put into the table on purpose."""
    kinds = {
        n
        for n, v in vars(ai).items()
        if isinstance(v, type) and issubclass(v, ai.AgentRunError) and not n.startswith("_")
    }
    assert kinds == {
        "AgentRunError",
        "ConcurrencyLimitExceeded",
        "ContentFilterError",
        "IncompleteToolCall",
        "ModelAPIError",
        "ModelAuthenticationError",
        "ModelConnectionError",
        "ModelContextWindowExceededError",
        "ModelHTTPError",
        "ModelNotFoundError",
        "ModelOverloadedError",
        "ModelQuotaExceededError",
        "ModelRateLimitError",
        "ModelRequestRejectedError",
        "ModelRequestTimeout",
        "ModelServerError",
        "ModelTimeoutError",
        "ModelUnavailableError",
        "OutputTokenLimitExceeded",
        "RunCancelled",
        "RunTimedOut",
        "SuspendedResponseExpired",
        "UnexpectedModelBehavior",
        "UsageLimitExceeded",
    }
