"""Decides where in a run its steps are read and written: around each model request and each tool call, outside of all that changes them.

What is read is what came out of all of it, so nothing of it is done twice. Agents inside of tools are a part of the tool's step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic_ai import ModelRetry, RunContext, RunUsage, SkipToolExecution
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import CapabilityOrdering
from pydantic_ai.exceptions import ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import ToolDefinition

from agentservice_runtime.cache.outcome import Outcome
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.steps.journal import Journal
from agentservice_runtime.steps.written import Answered, Beyond, Called, Unreadable, asked


@dataclass
class RunSteps(AbstractCapability[Any]):
    """Passed with one run: an attempt of a task whose steps are kept."""

    journal: Journal
    record: RunRecord
    _own: RunUsage = field(default_factory=RunUsage)
    """The answers of the run's own model."""
    _beyond: Beyond = field(default_factory=Beyond)
    _charged: int = 0
    _is_writing: bool = True
    """Until a step could not be written: those after it would stand on nothing."""
    _calls: set[str] = field(default_factory=set[str])
    """Of the last answer, not yet begun. Calls that a tool makes by itself are a part of its step."""

    def get_ordering(self) -> CapabilityOrdering:
        """See pydantic-ai: outside of all that changes a request or a result."""
        return CapabilityOrdering(position="outermost")

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, handler: Any
    ) -> ModelResponse:
        """Answer from the journal, or ask and write down. Raises ServiceError (503)."""
        digest = asked(request_context, run_id=ctx.run_id)
        found = await self._found(ctx.run_step, digest)
        if found is not None:
            self._replayed(found)
        else:
            await self.journal.discard(ctx.run_step)
            requests = ctx.usage.requests - self._own.requests
            found = self._answered(await handler(request_context), ctx.usage, requests=requests)
            await self._write(ctx.run_step, digest, found)
        self._own.incr(found.response.usage)
        self._own.requests += 1
        self._beyond = found.beyond
        self._charged = len(self.record.account.charges)
        self._calls = set(found.tool_calls)
        return found.response

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Return what the tool returned, or call it and write that down. Raises what it raised, and ServiceError (503)."""
        id = call.tool_call_id
        if id not in self._calls:
            return await handler(args)
        self._calls.remove(id)
        body = await self.journal.find(ctx.run_step, call=id, digest=tool_def.name)
        known = _readable(body)
        if known is not None:
            # so it counts as a call
            raise SkipToolExecution(known.result())
        try:
            result = await handler(args)
        except (ModelRetry, ToolRetryError, ToolFailed, ToolFailedError) as error:
            await self._write_call(ctx.run_step, tool_def.name, id, Called.of_error(error))
            raise
        called = Called.of_result(result)
        await self._write_call(ctx.run_step, tool_def.name, id, called)
        return result if called is None else called.result()

    async def _found(self, number: int, digest: str) -> Answered | None:
        body = await self.journal.find(number, digest=digest)
        try:
            return None if body is None else Answered.decode(body)
        except Unreadable:
            return None

    def _replayed(self, answered: Answered) -> None:
        """Let the run have used what it had used until then, and the process nothing."""
        record, more = self.record, answered.beyond - self._beyond
        if record.cache is not None and record.cache.outcome is None:
            # it answers a run's first request, and this run's is answered
            record.cache.decide(Outcome.BYPASS)
        extra = RunUsage(requests=more.requests, input_tokens=more.input_tokens, output_tokens=more.output_tokens)
        record.usage.incr(extra)
        record.replayed.incr(extra)
        record.replayed.incr(answered.response.usage)
        record.replayed.requests += 1
        account = record.account
        account.charges.extend(answered.charges)
        account.served_by = answered.served_by or account.served_by
        record.replayed_usd += Decimal(sum(charge.spend.nano_usd for charge in answered.charges)) / 10**9

    def _answered(self, response: ModelResponse, usage: RunUsage, *, requests: int) -> Answered:
        own, last = self._own, response.usage
        account = self.record.account
        return Answered(
            response=response,
            charges=tuple(account.charges[self._charged :]),
            served_by=account.served_by,
            beyond=Beyond(
                requests=requests,
                input_tokens=usage.input_tokens - own.input_tokens - last.input_tokens,
                output_tokens=usage.output_tokens - own.output_tokens - last.output_tokens,
            ),
        )

    async def _write(self, number: int, digest: str, answered: Answered) -> None:
        body = answered.encode() if self._is_writing else None
        if body is None:
            self._is_writing = False
        else:
            await self.journal.write(number, digest=digest, body=body)

    async def _write_call(self, number: int, tool: str, id: str, called: Called | None) -> None:
        body = called.encode() if self._is_writing and called is not None else None
        if body is not None:
            await self.journal.write(number, call=id, digest=tool, body=body)


def _readable(body: bytes | None) -> Called | None:
    try:
        return None if body is None else Called.decode(body)
    except Unreadable:
        return None
