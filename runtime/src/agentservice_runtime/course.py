"""Decides what of ours goes with a run, and in which order each point of it is passed.

It is one capability, not six: for each capability pydantic-ai copies the run's context at each of a dozen hooks, whether it has the
hook or not, which costs 0.1 ms a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import CapabilityOrdering, WrapRunHandler
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import ToolDefinition

from agentservice_runtime.guard import Guard, OutputCap
from agentservice_runtime.meter.degrade import Degrade
from agentservice_runtime.observed import Observation
from agentservice_runtime.recovery import RunRecovery

if TYPE_CHECKING:  # its store imports the Redis client
    from agentservice_runtime.cache.capability import RunCache


@dataclass(kw_only=True)
class Course(AbstractCapability[Any]):
    """Passed with one run whose failures are final. It stands closest to the model, so what the user's own capabilities do comes before it."""

    observation: Observation
    guard: Guard
    recovery: RunRecovery | None = None
    degrade: Degrade | None = None
    """After recovery: the cheaper model has the last word."""
    cap: OutputCap | None = None
    """After it: its settings are lowered too."""
    cache: RunCache | None = None
    """Last of all: it sees the request as it would be sent."""

    def get_ordering(self) -> CapabilityOrdering:
        """See pydantic-ai: after what changes the request."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_model(self, model: Model[Any]) -> Model[Any]:
        """Have each attempt observed."""
        return self.observation.get_wrapper_model(model)

    async def wrap_run(self, ctx: RunContext[Any], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Let the cache keep what the run answers."""
        return await (handler() if self.cache is None else self.cache.wrap_run(ctx, handler=handler))

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Choose the model and its settings, refuse what is too long, and ask the cache."""
        for part in (self.recovery, self.guard, self.degrade, self.cap, self.cache):
            if part is not None:
                request_context = await part.before_model_request(ctx, request_context)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Show the cache what was answered."""
        if self.cache is None:
            return response
        return await self.cache.after_model_request(ctx, request_context=request_context, response=response)

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Limit a tool's time, and count it, also when it was stopped."""

        async def limited(args: Any) -> Any:
            return await self.guard.wrap_tool_execute(ctx, call=call, tool_def=tool_def, args=args, handler=handler)

        return await self.observation.wrap_tool_execute(ctx, call=call, tool_def=tool_def, args=args, handler=limited)


@dataclass(kw_only=True)
class RecoveringCourse(Course):
    """Passed with a run whose failed model requests are sent again. pydantic-ai opens streams early where this hook is there."""

    async def on_model_request_error(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, error: Exception
    ) -> ModelResponse:
        """Ask again, ask another model, or raise ``error``."""
        if self.recovery is None:
            raise error
        return await self.recovery.on_model_request_error(ctx, request_context=request_context, error=error)
