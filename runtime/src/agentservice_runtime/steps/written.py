"""Decides what is written of a step, and whether what is read back stands for it: pure, and in pydantic-ai's own JSON.

Only what comes back from JSON as it went in is written. A run goes on with what was written, not with what was answered,
so that it goes on in the same way when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast

import orjson
import pydantic_core
from pydantic_ai import ModelRetry, ToolReturn
from pydantic_ai.exceptions import ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelResponse,
    ToolCallPart,
    tool_return_content_ta,
    tool_return_ta,
)
from pydantic_ai.models import ModelRequestContext

from agentservice_runtime.cache.key import request_digest
from agentservice_runtime.ledger.interface import Bill
from agentservice_runtime.meter.account import Charge

MAX_BYTES: Final = 1_048_576
"""Of a step as it is written. A larger one is not, and is asked again."""
_VERSION: Final = 1
"""Raised when what is written comes to mean something else."""


class Unreadable(Exception):  # noqa: N818
    """A step was written by a program that differs."""


class Outcome(StrEnum):
    """How a tool has ended."""

    VALUE = "value"
    RETURN = "return"
    """With a ToolReturn."""
    RETRY = "retry"
    """With words that ask the model to call it otherwise."""
    FAILED = "failed"
    """With words that tell the model that it failed."""


@dataclass(frozen=True, kw_only=True)
class Beyond:
    """What a run had used beside its own model's answers: agents in its tools, attempts that a fallback took over from."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __sub__(self, other: Beyond) -> Beyond:
        """Return what came after ``other``."""
        return Beyond(
            requests=self.requests - other.requests,
            input_tokens=self.input_tokens - other.input_tokens,
            output_tokens=self.output_tokens - other.output_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A model request that was answered."""

    response: ModelResponse
    charges: tuple[Charge, ...] = ()
    """What a budget was charged since the answer before."""
    served_by: str | None = None
    """The model that had taken over until then."""
    beyond: Beyond = Beyond()
    """Of the run until then."""

    @property
    def tool_calls(self) -> frozenset[str]:
        """The ids of the calls that it asks for."""
        return frozenset(part.tool_call_id for part in self.response.parts if isinstance(part, ToolCallPart))

    def encode(self) -> bytes | None:
        """Return the bytes; None for what cannot be written: too large, or not whole."""
        if self.response.state != "complete":
            return None
        # what the attempts before it have used is told by `beyond`
        response = replace(self.response, failed_attempts=None)
        document = {
            "version": _VERSION,
            "response": orjson.Fragment(ModelMessagesTypeAdapter.dump_json([response])),
            "charges": [
                [c.spend.name, c.spend.price, c.spend.tokens, c.spend.nano_usd, c.is_priced] for c in self.charges
            ],
            "servedBy": self.served_by,
            "beyond": asdict(self.beyond),
        }
        return _bounded(orjson.dumps(document))

    @staticmethod
    def decode(body: bytes) -> Answered:
        """Return what `encode` made. Raises Unreadable."""
        try:
            content = _content(body)
            (response,) = ModelMessagesTypeAdapter.validate_python(content["response"])
            charges = tuple(
                Charge(Bill(name, price, int(tokens), int(nano)), bool(is_priced))
                for name, price, tokens, nano, is_priced in content["charges"]
            )
            beyond = Beyond(**content["beyond"])
            served_by = content["servedBy"]
        except (ValueError, TypeError, KeyError):
            raise Unreadable from None
        if not isinstance(response, ModelResponse):
            raise Unreadable
        return Answered(response=response, charges=charges, served_by=served_by, beyond=beyond)


@dataclass(frozen=True, kw_only=True)
class Called:
    """A tool call that has ended."""

    outcome: Outcome
    value: Any
    """JSON: what the tool returned, the members of its ToolReturn, or the words."""

    @staticmethod
    def of_result(result: Any) -> Called | None:
        """Return what is written of ``result``; None for what is not JSON: binary content, links to it, other objects."""
        try:
            if not isinstance(result, ToolReturn):
                return Called(outcome=Outcome.VALUE, value=_plain(result))
            returned = cast("ToolReturn[Any]", result)
            if not _is_text(returned.content):
                return None
            members = {
                "return_value": _plain(returned.return_value),
                "content": returned.content,
                "metadata": _plain(returned.metadata),
                "tools": returned.tools,
            }
        except (ValueError, TypeError, RecursionError):
            return None
        return Called(outcome=Outcome.RETURN, value=members)

    @staticmethod
    def of_error(error: Exception) -> Called | None:
        """Return what is written of an end that the model is told of; None for another."""
        cause = error.__cause__ if isinstance(error, ToolRetryError | ToolFailedError) else error
        message: object = cause.message if isinstance(cause, ModelRetry | ToolFailed) else None
        if not isinstance(message, str):
            return None
        return Called(outcome=Outcome.FAILED if isinstance(cause, ToolFailed) else Outcome.RETRY, value=message)

    def result(self) -> Any:
        """Return what the tool returned. Raises ModelRetry or ToolFailed where it had ended so."""
        match self.outcome:
            case Outcome.VALUE:
                return self.value
            case Outcome.RETURN:
                members = dict(self.value)
                return ToolReturn(members.pop("return_value"), **members)
            case Outcome.RETRY:
                raise ModelRetry(self.value)
            case Outcome.FAILED:
                raise ToolFailed(self.value)

    def encode(self) -> bytes | None:
        """Return the bytes; None when they are too many."""
        return _bounded(pydantic_core.to_json({"version": _VERSION, "outcome": self.outcome, "value": self.value}))

    @staticmethod
    def decode(body: bytes) -> Called:
        """Return what `encode` made. Raises Unreadable."""
        try:
            content = _content(body)
            return Called(outcome=Outcome(content["outcome"]), value=content["value"])
        except (ValueError, TypeError, KeyError):
            raise Unreadable from None


def asked(request: ModelRequestContext, *, run_id: str | None) -> str:
    """Return the digest of what is asked, before anything of the run changes it.

    The answers of this run are not in it: those stand in the journal themselves, and come back from there with other times.
    """
    messages = [m for m in request.messages if not (isinstance(m, ModelResponse) and m.run_id == run_id)]
    return request_digest(_VERSION, request=request, messages=messages)


def _plain(value: Any) -> Any:
    """Return ``value`` as it comes back from JSON, in which the model reads the same. Raises ValueError for what does not."""
    body = tool_return_ta.dump_json(value, by_alias=True)
    plain = pydantic_core.from_json(body)
    # pydantic-ai reads pictures, files and links to them back from their JSON; sent as text they would be something else
    if tool_return_content_ta.validate_json(body) != plain:
        raise ValueError("content that is not JSON")
    return plain


def _is_text(content: object) -> bool:
    if content is None or isinstance(content, str):
        return True
    return isinstance(content, Sequence) and all(isinstance(part, str) for part in cast("Sequence[object]", content))


def _content(body: bytes) -> dict[str, Any]:
    content = pydantic_core.from_json(body)
    if content["version"] != _VERSION:
        raise Unreadable
    return content


def _bounded(body: bytes) -> bytes | None:
    return body if len(body) <= MAX_BYTES else None
