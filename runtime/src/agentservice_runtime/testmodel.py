"""Decides what `model: test` answers: no key, no network, no cost, and an answer that shows what the agent was told.

Instructions and question stand in the answer so that a rollout, a template or an input can be seen to arrive. With an
output schema the answer is made from the schema, by pydantic-ai's TestModel. Tools are never called.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

NAME: Final = "test"
_MAX_QUOTED: Final = 400


class EchoModel(WrapperModel):
    """The model behind `spec.model.name: test`."""

    def __init__(self) -> None:
        super().__init__(TestModel(call_tools=[]))

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer at once."""
        model = _answering(messages, model_request_parameters)
        return await model.request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Answer word by word."""
        model = _answering(messages, model_request_parameters)
        async with model.request_stream(messages, model_settings, model_request_parameters, run_context) as stream:
            yield stream


def _answering(messages: list[ModelMessage], parameters: ModelRequestParameters) -> TestModel:
    if parameters.output_mode != "text":
        return TestModel(call_tools=[])
    return TestModel(call_tools=[], custom_output_text=answer(messages))


def answer(messages: list[ModelMessage]) -> str:
    """Return the text that answers ``messages``."""
    instructions = ""
    question = ""
    for message in messages:
        if isinstance(message, ModelRequest):
            instructions = message.instructions or instructions
            for part in message.parts:
                if isinstance(part, UserPromptPart):
                    question = part.content if isinstance(part.content, str) else "(several parts)"
    return (
        f"This is the test model. It was told: {_quoted(instructions)} It was asked: {_quoted(question)} "
        "Set spec.model.name, for instance to openai-chat:gpt-4o-mini, for real answers."
    )


def _quoted(text: str) -> str:
    text = text.strip()
    return f'"{text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."}"'
