"""Decides which answers may be given again, and as what: the model's last response, so that every endpoint replays it in its own way.

An error never comes here. A replayed response passes through the agent's own output validators and output functions,
as the first did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import (
    BaseToolCallPart,
    FilePart,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import RequestUsage

from agentservice_runtime.cache.outcome import NotKept

MAX_BYTES: Final = 1_048_576
"""Of an answer as it is kept."""
_WHOLE: Final = (None, "stop", "tool_call")
"""Finish reasons of a response that says all it wanted to."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer as it is kept."""

    key: str
    """So that an answer is never taken for that of another key."""
    tokens: int
    """That the run behind it used."""
    response: ModelResponse

    def encode(self) -> bytes:
        """Return the bytes for Redis."""
        response = orjson.Fragment(ModelMessagesTypeAdapter.dump_json([self.response]))
        return orjson.dumps({"key": self.key, "tokens": self.tokens, "response": response})

    @staticmethod
    def decode(body: bytes, *, key: str) -> Kept | None:
        """Return what `encode` made; None for what is not the answer of ``key`` or was made by a program that differs."""
        try:
            content = orjson.loads(body)
            (response,) = ModelMessagesTypeAdapter.validate_python(content["response"])
        except (ValueError, TypeError, KeyError):
            return None
        if content["key"] != key or not isinstance(response, ModelResponse):
            return None
        return Kept(key=key, tokens=int(content["tokens"]), response=response)


def tools_called(response: ModelResponse, *, output_tools: frozenset[str]) -> Iterable[str]:
    """Yield the name of each tool that ``response`` calls, those that the provider runs included."""
    for part in response.parts:
        if isinstance(part, BaseToolCallPart) and part.tool_name not in output_tools:
            yield part.tool_name


def kept(result: AgentRunResult[Any], *, key: str, tokens: int, output_tools: frozenset[str]) -> Kept | NotKept:
    """Return what is kept of a run that has ended well, or why nothing is."""
    if isinstance(result.output, DeferredToolRequests):
        return NotKept.NO_ANSWER
    response = result.response
    if response.state != "complete" or response.finish_reason not in _WHOLE:
        return NotKept.CUT
    parts = [part for part in response.parts if _belongs(part, output_tools)]
    if not parts:
        return NotKept.NO_ANSWER
    answer = ModelResponse(
        parts=parts,
        usage=RequestUsage(),
        model_name=response.model_name,
        timestamp=response.timestamp,
        provider_name=response.provider_name,
        finish_reason=response.finish_reason,
    )
    return Kept(key=key, tokens=tokens, response=answer)


def _belongs(part: ModelResponsePart, output_tools: frozenset[str]) -> bool:
    """Tell whether a part is of the answer: calls of other tools would be carried out again, thoughts are not shown."""
    if isinstance(part, ToolCallPart):
        return part.tool_name in output_tools
    return isinstance(part, TextPart | FilePart)
