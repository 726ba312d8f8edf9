"""Decides what a chat completion request asks of the agent, and which of its fields are obeyed, ignored or refused.

A field is obeyed when it says what is asked or how it is sent, ignored when it only tunes a model, which is the agent's
own matter, and refused when a client would rely on an effect that it does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from agentservice_runtime.conversation import Conversation, Said
from agentservice_runtime.errors import Category, FieldError, Problem, ServiceError
from agentservice_runtime.runner import Question, invalid

OBEYED: Final = frozenset({"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"})
IGNORED: Final = frozenset(
    {
        "frequency_penalty",
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "temperature",
        "top_p",
        "user",
        "verbosity",
    }
)
REFUSED: Final[dict[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "web_search_options": (),
}
"""Fields, and the values beside null that ask for nothing and pass."""
_WHY: Final = {
    "functions": "the agent has its own tools, which stay inside of it",
    "tools": "the agent has its own tools, which stay inside of it",
    "response_format": "the form of the answer is the agent's",
}
_MAX_ERRORS: Final = 10


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request that can be run."""

    question: Question
    is_stream: bool
    include_usage: bool
    """Whether a stream ends with its usage."""


class ChatReader:
    """Reads the requests to one agent, which is the only model that there is."""

    def __init__(self, model: str, *, conversation: Conversation, is_text: bool) -> None:
        """``is_text`` tells whether the agent answers text and not JSON."""
        self.model = model
        self._conversation = conversation
        self._is_text = is_text

    def read(self, body: dict[str, Any]) -> ChatRequest:
        """Return the request in ``body``. Raises ServiceError (404, 422) that names the field."""
        given = {name: value for name, value in body.items() if value is not None}
        errors = tuple(self._errors(given))[:_MAX_ERRORS]
        if errors:
            raise invalid(errors)
        if given["model"] != self.model:
            raise ServiceError(self.unknown_model(given["model"]))
        caps = [given[name] for name in ("max_tokens", "max_completion_tokens") if name in given]
        said = [
            Said(role=message["role"], text=_text(message), path=f"messages[{index}].content")
            for index, message in enumerate(given["messages"])
        ]
        options = given.get("stream_options", {})
        return ChatRequest(
            question=self._conversation.question(said, max_output_tokens=min(caps, default=None)),
            is_stream=given.get("stream", False),
            include_usage=options.get("include_usage") is True,
        )

    def unknown_model(self, name: str) -> Problem:
        """Return what is said of a model that is not this agent."""
        return Problem(
            status=404,
            title="Unknown model",
            detail=f"There is no model {name[:100]!r} here: the agent is the model {self.model!r}.",
            category=Category.VALIDATION,
            errors=(FieldError(path="model", message=f"must be {self.model!r}"),),
        )

    def _errors(self, given: dict[str, Any]) -> Iterator[FieldError]:
        for name, value in given.items():
            if name not in OBEYED | IGNORED | REFUSED.keys():
                yield FieldError(path=name[:100], message="is no field of this request: remove it")
            elif name in REFUSED and not self._asks_nothing(name, value):
                yield FieldError(path=name, message=f"is not supported: {_WHY.get(name, 'leave it out')}")
        if not isinstance(given.get("model"), str):
            yield FieldError(path="model", message=f"must be {self.model!r}")
        if not isinstance(given.get("stream", False), bool):
            yield FieldError(path="stream", message="must be true or false")
        if not isinstance(given.get("stream_options", {}), dict):
            yield FieldError(path="stream_options", message="must be an object")
        for name in ("max_tokens", "max_completion_tokens"):
            value = given.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                yield FieldError(path=name, message="must be an integer of at least 1")
        yield from _message_errors(given.get("messages"))

    def _asks_nothing(self, name: str, value: Any) -> bool:
        if name == "response_format" and value == {"type": "json_object"}:
            return not self._is_text
        # in Python False equals 0 and True 1
        return any(type(value) is type(neutral) and value == neutral for neutral in REFUSED[name])


def _message_errors(messages: Any) -> Iterator[FieldError]:
    if not isinstance(messages, list) or not messages:
        yield FieldError(path="messages", message="must be a list that is not empty")
        return
    known = cast("list[Any]", messages)
    for index, message in enumerate(known):
        yield from _errors_of(message, path=f"messages[{index}]")
    if not isinstance(known[-1], dict) or cast("dict[str, Any]", known[-1]).get("role") != "user":
        yield FieldError(
            path=f"messages[{len(known) - 1}].role", message="must be user: the last message is the question"
        )


def _errors_of(message: Any, *, path: str) -> Iterator[FieldError]:
    if not isinstance(message, dict):
        yield FieldError(path=path, message="must be an object")
        return
    known = cast("dict[str, Any]", message)
    role = known.get("role")
    if role in ("tool", "function") or known.get("tool_calls") or known.get("function_call"):
        yield FieldError(path=path, message=f"is about a tool, which is not supported: {_WHY['tools']}")
    elif role not in ("system", "developer", "user", "assistant"):
        yield FieldError(path=f"{path}.role", message="must be system, developer, user or assistant")
    elif not _is_text(known):
        yield FieldError(path=f"{path}.content", message="must be a text, or a list of parts of the type text")


def _is_text(message: dict[str, Any]) -> bool:
    content = message.get("content")
    if content is None:
        return isinstance(message.get("refusal"), str)
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(cast("dict[str, Any]", part).get(_member(cast("Any", part))), str)
        for part in cast("list[Any]", content)
    )


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part[_member(part)] for part in cast("list[dict[str, Any]]", content))
    return cast("str", content if content is not None else message["refusal"])


def _member(part: dict[str, Any]) -> str:
    return {"text": "text", "refusal": "refusal"}.get(str(part.get("type")), "")
