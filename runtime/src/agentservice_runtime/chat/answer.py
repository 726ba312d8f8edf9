"""Decides how a run reads as a chat completion: at once, as chunks, or as an error of OpenAI's shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from agentservice_runtime.errors import Category, Problem
from agentservice_runtime.runner import Answer
from agentservice_runtime.stream import EachEventTelling, TextSteps

CHAT_PATH: Final = "/v1/chat/completions"
MODELS_PATH: Final = "/v1/models"
_DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, kw_only=True)
class ChatWording:
    """What all documents of one answer have in common."""

    model: str
    """The agent's name."""
    run_id: str
    created: int
    """Unix time."""

    def completion(self, answer: Answer) -> dict[str, Any]:
        """Return the whole answer."""
        message = {"role": "assistant", "content": text_of(answer), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(answer)}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer)}

    def chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> dict[str, Any]:
        """Return a piece of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        """Return what follows the last piece where usage is asked for."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.run_id, "object": kind, "created": self.created, "model": self.model}


class ChatTelling(EachEventTelling):
    """A streamed answer. Text is sent as it comes; JSON at the end, when it is known to fit its schema."""

    has_status = True

    def __init__(self, wording: ChatWording, *, is_text: bool, include_usage: bool) -> None:
        self._wording = wording
        self._steps = TextSteps() if is_text else None
        self._include_usage = include_usage
        self._has_begun = False

    def event(self, event: Any) -> bytes | None:
        """Return the text in ``event``; tools are not shown."""
        text = "" if self._steps is None else self._steps.text(event)
        return self._said(text) if text else None

    def result(self, answer: Answer) -> bytes:
        """Return what is still to be said, and the end."""
        rest = b"" if self._has_begun else self._said(text_of(answer))
        end = self._encode(self._wording.chunk({}, finish=finish_reason(answer)))
        told = self._encode(self._wording.usage_chunk(answer)) if self._include_usage else b""
        return rest + end + told + _DONE

    def error(self, problem: Problem) -> bytes:
        """Return an error, which ends the stream: the SDKs raise it."""
        return _line(chat_error(problem))

    def _said(self, text: str) -> bytes:
        delta: dict[str, Any] = {"content": text}
        if not self._has_begun:
            self._has_begun = True
            delta = {"role": "assistant", **delta}
        return self._encode(self._wording.chunk(delta))

    def _encode(self, document: dict[str, Any]) -> bytes:
        # a client that asks for usage finds the member in every chunk, null but in the last
        return _line({**document, "usage": document.get("usage")} if self._include_usage else document)


def text_of(answer: Answer) -> str:
    """Return the answer as text: what is no text is JSON."""
    return answer.output if isinstance(answer.output, str) else orjson.dumps(answer.output).decode()


def finish_reason(answer: Answer) -> str:
    """Return why the answer ends here."""
    return "length" if answer.is_cut_off else "stop"


def usage(answer: Answer) -> dict[str, Any]:
    """Return the tokens of all model requests of the run. ``cost_usd`` is ours, a decimal string or null."""
    used = answer.usage
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cache_read_tokens},
        "cost_usd": answer.cost_usd,
    }


def chat_status(problem: Problem) -> int:
    """Return the status: OpenAI answers 400 to every request that does not fit."""
    return 400 if problem.category is Category.VALIDATION and problem.status == 422 else problem.status


def chat_error(problem: Problem) -> dict[str, Any]:
    """Return the problem as clients of OpenAI read it. `type` and `code` are OpenAI's own where it has one."""
    kind, code = _kind(problem)
    param = problem.errors[0].path if problem.errors else None
    return {"error": {"message": problem.detail, "type": kind, "param": param, "code": code}}


def _kind(problem: Problem) -> tuple[str, str | None]:
    match problem.status, problem.category:
        case 401, _:
            return "invalid_request_error", "invalid_api_key"
        case 404, _ if problem.errors:
            return "invalid_request_error", "model_not_found"
        case 429, Category.BUDGET if not problem.retryable:
            return "insufficient_quota", "insufficient_quota"
        case 429, _:
            return "rate_limit_error", "rate_limit_exceeded"
        case status, category if status < 500:
            return "invalid_request_error", None if category is Category.VALIDATION else str(category)
        case _, category:
            return "server_error", str(category)


def _line(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
