"""Decides what is counted of a run's model requests and tool calls: how often, how they ended, how long they took.

It sees the run itself; agents that its tools ask are their authors' to watch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydantic_ai import ModelRetry, RunCancelled, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import CapabilityOrdering
from pydantic_ai.exceptions import ToolRetryError
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from agentservice_runtime.errors import classify
from agentservice_runtime.metrics import CANCELLED, SUCCESS, Metrics

_STOPPED: Final = (asyncio.CancelledError, GeneratorExit, RunCancelled)
_RETRY: Final = "retry"
_ERROR: Final = "error"


@dataclass
class Observation(AbstractCapability[Any]):
    """Passed with every run. ``named`` are models with the names that the specification has for them."""

    metrics: Metrics
    named: Sequence[tuple[Any, str]]

    def get_ordering(self) -> CapabilityOrdering:
        """See pydantic-ai: outside of what limits a tool, so that a tool that was stopped is counted too."""
        return CapabilityOrdering(position="outermost")

    def get_wrapper_model(self, model: Model[Any]) -> Model[Any]:
        """Return ``model`` under a watch; this is asked for every attempt."""
        return _Observed(model, name=self._name(model), metrics=self.metrics)

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Count the call."""
        began, status = time.perf_counter(), _ERROR
        try:
            result = await handler(args)
            status = SUCCESS
        except (ModelRetry, ToolRetryError):
            status = _RETRY
            raise
        except _STOPPED:
            status = CANCELLED
            raise
        finally:
            self.metrics.called(tool=tool_def.name, status=status, seconds=time.perf_counter() - began)
        return result

    def _name(self, model: Model[Any]) -> str:
        sender = _innermost(model)
        return next((name for known, name in self.named if _innermost(known) is sender), None) or sender.model_id


class _Observed(WrapperModel):
    """A model whose requests are counted."""

    def __init__(self, wrapped: Model[Any], *, name: str, metrics: Metrics) -> None:
        super().__init__(wrapped)
        self._name = name
        self._metrics = metrics

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        began = time.perf_counter()
        try:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
        except BaseException as error:
            self._count(began, _status(error))
            raise
        self._count(began, SUCCESS)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        began, stream = time.perf_counter(), None
        try:
            async with self.wrapped.request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream
        except BaseException as error:
            self._count(began, _status(error), stream)
            raise
        self._count(began, SUCCESS, stream)

    def _count(self, began: float, status: str, stream: StreamedResponse | None = None) -> None:
        first = None if stream is None else stream.time_to_first_chunk(began)
        seconds = time.perf_counter() - began
        self._metrics.asked(model=self._name, status=status, seconds=seconds, first=first)


def _innermost(model: Any) -> Any:
    while isinstance(model, WrapperModel):
        model = model.wrapped
    return model


def _status(error: BaseException) -> str:
    return CANCELLED if isinstance(error, _STOPPED) else classify(error).category
