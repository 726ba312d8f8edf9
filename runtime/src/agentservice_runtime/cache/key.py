"""Decides which requests are equal: the same caller, revision, model, settings, instructions, tools and messages, as they are sent.

The key is a digest, so nothing of them can be read in Redis' keys. What differs from run to run without reaching the
model (ids and times of ours) is left out; anything else that differs makes another key, at worst a needless one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import pydantic_core
from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.models import Model, ModelRequestContext, ModelRequestParameters

_VERSION: Final = 1
"""Raised when a key comes to mean something else."""
_OURS: Final = frozenset({"timestamp", "run_id", "conversation_id", "usage"})
"""Members of messages and their parts that no model is sent."""
_PARAMETERS: Final = TypeAdapter(ModelRequestParameters)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Among whom answers are shared."""

    revision: str
    caller: str
    """Who may see the answer, told apart from everybody else; empty: all callers alike."""


def digest(scope: Scope, request: ModelRequestContext) -> str:
    """Return the key of a run that begins with ``request``, in hexadecimal."""
    return request_digest(_VERSION, scope.revision, scope.caller, request=request, messages=request.messages)


def request_digest(*words: str | int, request: ModelRequestContext, messages: Sequence[ModelMessage]) -> str:
    """Return the digest of ``request`` with ``messages`` in place of its own, and of ``words``, in hexadecimal."""
    document = [
        *words,
        _model(request.model),
        request.model_settings,
        _PARAMETERS.dump_python(request.model_request_parameters),
        _messages(messages),
    ]
    return hashlib.sha256(_canonical(document)).hexdigest()


def _model(model: Model[Any]) -> list[Any]:
    return [type(model).__qualname__, model.model_id, getattr(model, "base_url", None), model.settings]


def _messages(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in ModelMessagesTypeAdapter.dump_python(list(messages)):
        parts = [_without_ours(part) for part in message["parts"]]
        found.append({**_without_ours(message), "parts": parts})
    return found


def _without_ours(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in _OURS}


def _canonical(value: Any) -> bytes:
    """Return bytes that are equal for equal values, whichever process makes them."""
    return orjson.dumps(
        value, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
    )


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        # a set's order is another one in each process
        return [orjson.Fragment(each) for each in sorted(map(_canonical, cast("set[Any]", value)))]
    return pydantic_core.to_jsonable_python(value, fallback=repr)
