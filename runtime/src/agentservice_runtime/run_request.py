"""Decides what the body of a run asks, whichever way it is answered: its `input`, and the conversation that it goes on with."""

from __future__ import annotations

from typing import Any, Final

from agentservice_runtime.body import input_of
from agentservice_runtime.errors import FieldError
from agentservice_runtime.memory.memory import conversation_id
from agentservice_runtime.runner import InputReader, Question, invalid

_CONVERSATION: Final = "conversation_id"


class RunReader:
    """Reads the bodies of `/v1/run` and `/v1/stream`."""

    def __init__(self, reader: InputReader, *, has_memory: bool) -> None:
        """``has_memory`` tells whether the agent remembers conversations."""
        self._reader = reader
        self._has_memory = has_memory

    def read(self, body: dict[str, Any]) -> Question:
        """Return what ``body`` asks. Raises ServiceError (422) that names the field."""
        value = input_of(body, beside=(_CONVERSATION,))
        name = body.get(_CONVERSATION)
        if name is not None and not self._has_memory:
            told = "is not supported: this agent remembers no conversations (spec.conversations)"
            raise invalid((FieldError(path=_CONVERSATION, message=told),))
        return Question(
            prompt=self._reader.prompt(value),
            attributes=self._reader.attributes(value),
            conversation_id=None if name is None else conversation_id(name),
        )
