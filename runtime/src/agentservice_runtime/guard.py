"""Decides what is refused inside a run: more messages or slower tools than `spec.agent.limits` allow, a longer answer than asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic_ai import ModelRetry, RunContext, UsageLimits
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from agentservice_api.spec.agent import Limits
from agentservice_runtime.errors import ConversationTooLong


@dataclass
class Guard(AbstractCapability[Any]):
    """Passed with every run, so it holds for declared agents, the user's own, and MCP tools alike."""

    max_messages: int
    tool_timeout_seconds: float

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Refuse a conversation that has grown too long, before it is sent and paid for."""
        if len(request_context.messages) > self.max_messages:
            raise ConversationTooLong
        return request_context

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Stop a tool that takes too long; the model is told and may try otherwise."""
        limit = asyncio.timeout(self.tool_timeout_seconds)
        try:
            async with limit:
                return await handler(args)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ModelRetry(f"The tool timed out after {self.tool_timeout_seconds:g} seconds.") from None


@dataclass
class OutputCap(AbstractCapability[Any]):
    """Passed with a run whose caller wants no more than so many tokens of output a model request."""

    max_tokens: int

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Lower the cap of this request."""
        settings = cast("ModelSettings", lowered(request_context.model_settings, max_tokens=self.max_tokens))
        return replace(request_context, model_settings=settings)


def lowered(settings: Mapping[str, Any] | None, *, max_tokens: int) -> dict[str, Any]:
    """Return ``settings`` with a cap of output tokens that is at most ``max_tokens``."""
    known = dict(settings or {})
    own = known.get("max_tokens")
    return {**known, "max_tokens": max_tokens if own is None else min(own, max_tokens)}


def guard(limits: Limits) -> Guard:
    """Return the guard that keeps ``limits``."""
    return Guard(max_messages=limits.max_conversation_messages, tool_timeout_seconds=limits.tool_timeout_seconds)


def usage_limits(limits: Limits) -> UsageLimits:
    """Return pydantic-ai's form of ``limits``: requests and calls are judged before, tokens after each request."""
    return UsageLimits(
        request_limit=limits.requests_per_run,
        tool_calls_limit=limits.tool_calls_per_run,
        total_tokens_limit=limits.total_tokens_per_run,
    )
