"""Decides what callers are told when there is no task to tell of."""

from __future__ import annotations

from typing import Final

from agentservice_runtime.errors import Category, Problem

NO_QUEUE: Final = Problem(
    status=404,
    title="No queue",
    detail="This agent takes no tasks: spec.queue is not enabled.",
    category=Category.VALIDATION,
)
UNAVAILABLE: Final = Problem(
    status=503,
    title="Queue unavailable",
    detail="The queue's Redis does not answer. Send the request again; with the header Idempotency-Key it becomes one task, however often "
    "it is sent.",
    category=Category.EXTERNAL_SERVICE,
    retryable=True,
    retry_after=2,
)
UNKNOWN: Final = Problem(
    status=404,
    title="No such task",
    detail="There is no task of yours with this id: it was never taken in, or it ended more than spec.queue.resultTTLSeconds ago.",
    category=Category.VALIDATION,
)
OTHER: Final = Problem(
    status=422,
    title="Idempotency key in use",
    detail="A task of yours with this Idempotency-Key has another input: give each request a key of its own.",
    category=Category.VALIDATION,
)
ENDED: Final = Problem(
    status=409,
    title="Task has ended",
    detail="The task has succeeded or failed: there is nothing to cancel. GET it for how.",
    category=Category.VALIDATION,
)
NOT_FAILED: Final = Problem(
    status=409,
    title="Task has not failed",
    detail="Only a task that has failed can be queued again.",
    category=Category.VALIDATION,
)
CANCELLED: Final = Problem(
    status=409,
    title="Task cancelled",
    detail="The task was cancelled before it had answered. What its run had used until then is counted.",
    category=Category.CANCELLED,
)


def given_up(max_attempts: int) -> Problem:
    """Return the problem of a task whose workers have all ended with it."""
    return Problem(
        status=500,
        title="Given up",
        detail=f"The task was begun {max_attempts} times (spec.queue.maxAttempts), and the process that last worked on it ended without a word: "
        "it may have been killed, run out of memory, or lost Redis for longer than the lease.",
        category=Category.INTERNAL,
    )
