"""Decides what a conversation that a client sends asks of the agent: its last message, with those before it as history.

What a client says as `system` or `developer` comes to the model as a user's words, at its place: the agent's instructions
are the developer's, and no caller may speak in their name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from agentservice_runtime.errors import FieldError, ServiceError
from agentservice_runtime.runner import InputReader, Question, invalid


@dataclass(frozen=True, kw_only=True)
class Said:
    """One message. Whoever is not the assistant and not `system` or `developer` is the user."""

    role: str
    text: str
    path: str
    """Where the text stands in the request, for errors."""


class Conversation:
    """Reads conversations with one agent, whose input ``reader`` knows."""

    def __init__(self, reader: InputReader) -> None:
        self._reader = reader

    def question(self, messages: Sequence[Said], *, max_output_tokens: int | None = None) -> Question:
        """Return what is asked. The last message must be the user's. Raises ServiceError (422) when it does not fit."""
        *before, last = messages
        return Question(
            prompt=self._prompt(last),
            history=tuple(self._history(before)),
            attributes=self._reader.attributes(self._input(last)),
            max_output_tokens=max_output_tokens,
        )

    def _prompt(self, message: Said) -> str:
        return self._reader.prompt(self._input(message))

    def _input(self, message: Said) -> Any:
        if not self._reader.is_typed:
            if not message.text.strip():
                raise invalid((FieldError(path=message.path, message="must be a text that is not empty"),))
            return message.text
        try:
            return orjson.loads(message.text)
        except orjson.JSONDecodeError:
            told = "must be the agent's input as JSON: its schema stands under Input at /docs"
            raise invalid((FieldError(path=message.path, message=told),)) from None

    def _history(self, messages: Sequence[Said]) -> Iterator[ModelMessage]:
        """Yield the messages in pydantic-ai's form, what stands between two answers as one."""
        parts: list[UserPromptPart] = []
        for message in messages:
            if message.role == "assistant":
                if parts:
                    yield ModelRequest(parts=[*parts])
                    parts = []
                yield ModelResponse(parts=[TextPart(content=message.text)])
            else:
                parts.append(UserPromptPart(content=self._earlier(message)))
        if parts:
            yield ModelRequest(parts=[*parts])

    def _earlier(self, message: Said) -> str:
        """Return what the model was told by an earlier message: an input that was refused then is quoted as it is."""
        if message.role == "user" and self._reader.is_typed:
            try:
                return self._prompt(message)
            except ServiceError:
                pass
        return message.text
