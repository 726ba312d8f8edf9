"""Decides what is kept of a conversation's turns, and how many of them the next run is given: whole turns, the newest.

A turn begins with what the caller said and ends with the answer, so cutting between turns never parts a tool's call from its
return. A turn that is too long by itself is kept as its question and its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
)
from pydantic_ai.usage import RequestUsage

from agentservice_api.spec.agent import Limits

MAX_BYTES: Final = 1_048_576
"""Of a whole conversation, as it is kept."""
_VERSION: Final = 1
"""Raised when what is kept comes to mean something else."""


class Unreadable(ValueError):  # noqa: N818  told to callers as a problem
    """What is kept was written by another version of this program."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a caller said and what the agent answered."""

    run_id: str
    at: datetime
    prompt: str
    """What the model was told."""
    output: Any
    """The answer as JSON."""
    messages: tuple[ModelMessage, ...]
    """Everything that went between the agent and its model."""

    def shown(self) -> Iterator[dict[str, Any]]:
        """Yield what was said, as a caller may read it: tools and thoughts stay inside."""
        about = {"run_id": self.run_id, "at": self.at.isoformat()}
        yield {"role": "user", "content": self.prompt, **about}
        yield {"role": "assistant", "content": self.output, **about}


def turn_of(*, run_id: str, said: str, output: Any, messages: Sequence[ModelMessage]) -> Turn:
    """Return what is kept of a run that has answered."""
    return Turn(run_id=run_id, at=datetime.now(UTC), prompt=said, output=output, messages=_kept_of(messages))


def messages_at_most(limits: Limits) -> int:
    """Return how many earlier messages a run is given: so many that it has room for its own."""
    bound = limits.max_conversation_messages
    return max(bound - 2 * limits.requests_per_run, bound // 2)


def _kept_of(messages: Sequence[ModelMessage]) -> tuple[ModelMessage, ...]:
    """Return a run's messages without what is the developer's, and of that run alone.

    The next run brings instructions and system prompt of its own, maybe of a later revision. A run's id may be given to another one.
    """
    found: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            found.append(_answered(message))
            continue
        parts = [part for part in message.parts if not isinstance(part, SystemPromptPart)]
        if parts:
            found.append(replace(message, parts=parts, instructions=None, run_id=None, conversation_id=None))
    return tuple(found)


def _answered(message: ModelResponse) -> ModelResponse:
    """Return the response without what only that one request was about: what is told again is the same, whenever it was said."""
    return ModelResponse(
        parts=message.parts,
        usage=RequestUsage(),
        model_name=message.model_name,
        timestamp=message.timestamp,
        provider_name=message.provider_name,
        finish_reason=message.finish_reason,
    )


def newest(turns: Sequence[Turn], *, messages: int) -> tuple[Turn, ...]:
    """Return the last turns that together have at most so many messages."""
    left, found = messages, list[Turn]()
    for turn in reversed(turns):
        kept = turn
        if len(turn.messages) > left and not found:
            kept = _condensed(turn)
        left -= len(kept.messages)
        if left < 0:
            break
        found.insert(0, kept)
    return tuple(found)


def encode(turns: Sequence[Turn], *, most: int = MAX_BYTES) -> bytes:
    """Return the bytes of the last turns that fit into ``most`` bytes; none when not even the last does."""
    encoded = [_encoded(turn) for turn in turns]
    while encoded and sum(map(len, encoded)) + len(encoded) > most:
        del encoded[0]
    if not encoded:
        return b""
    return orjson.dumps({"v": _VERSION, "turns": [orjson.Fragment(each) for each in encoded]})


def decode(body: bytes) -> tuple[Turn, ...]:
    """Return the turns of ``body``. Raises Unreadable."""
    try:
        document = orjson.loads(body)
        if document["v"] != _VERSION:
            raise Unreadable
        return tuple(
            Turn(
                run_id=each["run_id"],
                at=datetime.fromisoformat(each["at"]),
                prompt=each["prompt"],
                output=each["output"],
                messages=tuple(ModelMessagesTypeAdapter.validate_python(each["messages"])),
            )
            for each in document["turns"]
        )
    except (orjson.JSONDecodeError, ValidationError, LookupError, TypeError, ValueError):
        raise Unreadable from None


def _encoded(turn: Turn) -> bytes:
    messages = ModelMessagesTypeAdapter.dump_json(list(turn.messages))
    return orjson.dumps(
        {
            "run_id": turn.run_id,
            "at": turn.at.isoformat(),
            "prompt": turn.prompt,
            "output": turn.output,
            "messages": orjson.Fragment(messages),
        }
    )


def _condensed(turn: Turn) -> Turn:
    """Return the turn as its question and its answer: the first request and the last response with what belongs to it."""
    messages = turn.messages
    last = max((index for index, each in enumerate(messages) if isinstance(each, ModelResponse)), default=0)
    if not messages or not isinstance(messages[0], ModelRequest) or last < 1:
        return turn
    return replace(turn, messages=(messages[0], *messages[last:]))
