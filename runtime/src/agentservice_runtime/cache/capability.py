"""Decides at which points of a run the cache is asked and told: before its first model request, and once it has ended well.

It stands closest to the model, so it sees the request as it would be sent: instructions, tools and messages of an
agent that is not ours included. Agents inside of tools are no part of it; naming their tool in
`spec.cache.cacheableTools` vouches for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai import RunCancelled, RunContext, SkipModelRequest
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import CapabilityOrdering, WrapRunHandler
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult

from agentservice_runtime.cache import flight, replay
from agentservice_runtime.cache.flight import Found, Lease
from agentservice_runtime.cache.key import Scope, digest
from agentservice_runtime.cache.outcome import Note, NotKept, Outcome, Unavailable
from agentservice_runtime.cache.replay import Kept
from agentservice_runtime.logs import FIELDS, LOGGER, error_types
from agentservice_runtime.meter.account import Account

if TYPE_CHECKING:
    from agentservice_runtime.cache.cache import Cache


@dataclass
class RunCache(AbstractCapability[Any]):
    """Passed with one run. Nothing that goes wrong here fails it."""

    cache: Cache
    scope: Scope
    note: Note
    account: Account
    run_seconds: float
    _lease: Lease | None = None
    _served_by: str | None = None
    _called: set[str] = field(default_factory=set[str])
    _output_tools: frozenset[str] = frozenset()

    def get_ordering(self) -> CapabilityOrdering:
        """See pydantic-ai: after what changes the request."""
        return CapabilityOrdering(position="innermost")

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Ask for the answer, once a run. Raises SkipModelRequest with it."""
        if self.note.outcome is not None:
            return request_context
        try:
            found = await self._look(ctx, request_context)
        except Unavailable:
            self._decide(Outcome.UNAVAILABLE)
        except Exception as error:
            _complain("asking the cache failed", error)
            self._decide(Outcome.UNAVAILABLE)
        else:
            if found is not None:
                self._decide(Outcome.SHARED if found.waited else Outcome.HIT)
                self.cache.metrics.saved(found.kept.tokens)
                raise SkipModelRequest(found.kept.response)
            self._decide(Outcome.MISS)
        return request_context

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Remember which tools were called."""
        if self._lease is not None:
            self._called.update(replay.tools_called(response, output_tools=self._output_tools))
        return response

    async def wrap_run(self, ctx: RunContext[Any], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Keep the answer, or let others know that there will be none."""
        try:
            result = await handler()
        except BaseException as error:
            if self._lease is not None:
                is_stopped = isinstance(error, asyncio.CancelledError | RunCancelled)
                # who was stopped says nothing about the next one; after a failure the others must not queue up behind each other
                self._lease.leave(alone_seconds=0 if is_stopped else flight.AFTER_FAILURE_SECONDS)
            raise
        if self.note.is_hit:
            # pydantic-ai counts the step; no request was sent for it
            ctx.usage.requests -= 1
        if self._lease is not None:
            await self._keep(self._lease, result, tokens=ctx.usage.total_tokens)
        return result

    async def _look(self, ctx: RunContext[Any], request: ModelRequestContext) -> Found | None:
        self._served_by = self.account.served_by
        self._output_tools = frozenset(tool.name for tool in request.model_request_parameters.output_tools)
        boarded = await self.cache.board(
            digest(self.scope, request), message=_text(ctx.prompt), run_seconds=self.run_seconds
        )
        if isinstance(boarded, Lease):
            self._lease = boarded
        return boarded if isinstance(boarded, Found) else None

    async def _keep(self, lease: Lease, result: AgentRunResult[Any], *, tokens: int) -> None:
        try:
            kept = self._judged(lease, result, tokens=tokens)
            body = kept.encode() if isinstance(kept, Kept) else b""
        except Exception as error:
            _complain("keeping an answer failed", error)
            kept, body = NotKept.NO_ANSWER, b""
        if isinstance(kept, Kept) and len(body) > replay.MAX_BYTES:
            kept = NotKept.TOO_LARGE
        if isinstance(kept, Kept):
            await self.cache.keep(lease, body)
        else:
            self.cache.metrics.not_kept(kept)
            lease.leave(alone_seconds=flight.AFTER_UNKEPT_SECONDS)

    def _judged(self, lease: Lease, result: AgentRunResult[Any], *, tokens: int) -> Kept | NotKept:
        if not self._called <= self.cache.cacheable_tools:
            return NotKept.TOOL
        if self.account.is_squeezed and result.response.finish_reason is None:
            return NotKept.CUT
        if self.account.served_by != self._served_by:
            return NotKept.OTHER_MODEL
        return replay.kept(result, key=lease.key, tokens=tokens, output_tools=self._output_tools)

    def _decide(self, outcome: Outcome) -> None:
        self.note.decide(outcome)
        self.cache.metrics.counted(outcome)


def _text(prompt: object) -> str:
    """Return the text of a message."""
    if isinstance(prompt, str):
        return prompt
    parts = cast("Sequence[object]", prompt) if isinstance(prompt, Sequence) else ()
    return "".join(part for part in parts if isinstance(part, str))


def _complain(words: str, error: Exception) -> None:
    logging.getLogger(f"{LOGGER}.cache").error(words, extra={FIELDS: {"error": error_types(error)}})
