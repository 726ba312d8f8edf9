"""Decides what follows a model request that failed: the same model after a pause, the next model, or the error."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_ai import RetryModelRequest, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from agentservice_api.spec import ModelChoice, ModelSpec, Retry
from agentservice_runtime.errors import classify
from agentservice_runtime.guard import lowered
from agentservice_runtime.meter.scope import current_account
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.model import build_model, in_place_of, model_settings
from agentservice_runtime.model_failures import ModelFailure, failure_of, innermost
from agentservice_runtime.secrets import SecretFiles

PASSING: Final = frozenset(
    {ModelFailure.RATE_LIMITED, ModelFailure.TIMED_OUT, ModelFailure.UNAVAILABLE, ModelFailure.FAILED}
)
"""Failures that may have passed when the same model is asked again."""
ELSEWHERE: Final = PASSING | {ModelFailure.QUOTA}
"""Failures that another model may not have. A key or a request that is refused is none: its owner must hear of it."""
_JITTER: Final = 0.1
"""Share of a pause that is added by chance, so that those who failed together do not come back together."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that may take over."""

    name: str
    """As the specification has it."""
    model: Model[Any]


class Recovery:
    """How the runs of one agent recover: `for_run` makes the capability of each."""

    def __init__(self, spec: ModelSpec, *, secrets: SecretFiles, metrics: Metrics, name: str) -> None:
        """``name`` is the first model's, for the metrics. Raises ConfigurationRejected."""
        self._replaced = frozenset(model_settings(spec))
        self._retry = spec.retry
        self._name = name
        self._metrics = metrics
        self._fallbacks = [
            (choice, build_model(choice, secrets=secrets, field=f"spec.model.fallbacks[{index}]"))
            for index, choice in enumerate(spec.fallbacks)
        ]
        self.candidates = tuple(self._candidate(choice, model, cap=None) for choice, model in self._fallbacks)

    def for_run(self, *, seconds: float, max_output_tokens: int | None = None) -> RunRecovery | None:
        """Return the capability of a run that may take so many seconds; None where every failure is final.

        ``max_output_tokens`` is the caller's own cap, which a fallback's settings do not lift.
        """
        if self._retry.max_attempts == 1 and not self.candidates:
            return None
        candidates = self.candidates
        if max_output_tokens is not None:
            candidates = tuple(self._candidate(c, model, cap=max_output_tokens) for c, model in self._fallbacks)
        return RunRecovery(
            retry=self._retry,
            candidates=candidates,
            name=self._name,
            deadline=time.monotonic() + seconds,
            metrics=self._metrics,
        )

    def _candidate(self, choice: ModelChoice, model: Any, *, cap: int | None) -> Candidate:
        settings = model_settings(choice)
        own = settings if cap is None else lowered(settings, max_tokens=cap)
        return Candidate(name=choice.name, model=_WithOwnSettings(model, settings=own, replaced=self._replaced))


@dataclass
class RunRecovery(AbstractCapability[Any]):
    """Passed with one run. It sees the model requests of the run itself; agents in its tools are their authors'.

    A stream is repeated only as long as nothing of it has been seen. ``clock`` is monotonic, in seconds, and so is
    ``deadline``, when the run is stopped: a pause that would outlast it is not made.
    """

    retry: Retry
    candidates: Sequence[Candidate]
    name: str
    deadline: float
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    _moved: int = 0
    _failures: tuple[int, int, int] = (0, 0, 0)

    @property
    def _current(self) -> Candidate | None:
        return self.candidates[self._moved - 1] if self._moved else None

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Stay with the model that has taken over: the one before it has just failed."""
        current = self._current
        return request_context if current is None else replace(request_context, model=current.model, model_id=None)

    async def on_model_request_error(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, error: Exception
    ) -> ModelResponse:
        """Ask again, ask another model, or raise ``error``."""
        cause = innermost(error)
        if not isinstance(cause, ModelAPIError):
            raise error
        failure, category = failure_of(cause), classify(cause).category
        failures = self._count(ctx.run_step)
        if failure in PASSING and failures < self.retry.max_attempts:
            pause = self._pause(failures, asked=cause.retry_after)
            if pause is not None:
                self.metrics.retried(model=self._serving, category=category)
                await self.sleep(pause)
                raise RetryModelRequest
        if failure in ELSEWHERE and self._moved < len(self.candidates):
            following = self.candidates[self._moved]
            self._moved += 1
            self.metrics.fell_back(model=following.name, category=category)
            account = current_account()
            if account is not None:
                account.served_by = following.name
            raise RetryModelRequest(following.model)
        raise error

    @property
    def _serving(self) -> str:
        return self.name if self._current is None else self._current.name

    def _count(self, step: int) -> int:
        """Return how often the model that serves now has failed at this request."""
        before_step, before_moved, failures = self._failures
        failures = failures + 1 if (before_step, before_moved) == (step, self._moved) else 1
        self._failures = (step, self._moved, failures)
        return failures

    def _pause(self, failures: int, *, asked: float | None) -> float | None:
        """Return the seconds to wait; None when the provider, or the run's end, leaves no room for another attempt."""
        longest = self.retry.max_backoff_seconds
        if asked is not None and asked > longest:
            return None
        pause = min(longest, self.retry.backoff_seconds * 2.0 ** (failures - 1)) * (1 + _JITTER * self.chance())
        pause = max(pause, asked or 0.0)
        return pause if self.clock() + pause < self.deadline else None


class _WithOwnSettings(WrapperModel):
    """A model that is sent its own settings, in place of those of the model that it stands in for."""

    def __init__(self, wrapped: Model[Any], *, settings: Mapping[str, Any], replaced: frozenset[str]) -> None:
        super().__init__(wrapped)
        self._own = settings
        self._replaced = replaced

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self.wrapped.request(messages, self._mine(model_settings), model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        mine = self._mine(model_settings)
        async with self.wrapped.request_stream(messages, mine, model_request_parameters, run_context) as stream:
            yield stream

    def _mine(self, given: ModelSettings | None) -> ModelSettings:
        return in_place_of(given, replaced=self._replaced, own=self._own)
