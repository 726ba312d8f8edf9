"""Decides how little of OpenAI's SDK a chat request passes through.

Measured, of the processor time of a run whose model answers at once: the SDK walks each body along its type hints (11 %), and
pydantic-ai copies the client for each request that sets `max_retries`, as all of ours do. Neither changes a byte of what is
sent. Of a stream a sixth goes into building each chunk along its type hints, in Python; pydantic's validator makes the same of it in a
twentieth of the time. `make bench-runtime` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from openai import AsyncOpenAI, AsyncStream, BaseModel, NotGiven, Omit, not_given
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

_UNSENT: Final = (NotGiven, Omit)


def shorten(client: AsyncOpenAI) -> None:
    """Have ``client`` send chat requests by the short way, each of them once."""
    client.max_retries = 0
    completions: Any = client.chat.completions
    completions.create = _Direct(completions).create
    copying = client.with_options

    def with_options(**options: Any) -> AsyncOpenAI:
        same: dict[str, Any] = {"http_client": client._client, "max_retries": 0, "_extra_kwargs": {}}  # pyright: ignore[reportPrivateUsage]
        return client if options == same else copying(**options)

    setattr(client, "with_options", with_options)  # noqa: B010  the SDK declares a method


class _Direct:
    """`AsyncCompletions.create` for bodies that are plain JSON already, as those of pydantic-ai are."""

    def __init__(self, completions: AsyncCompletions) -> None:
        self._post: Any = completions._client.post  # pyright: ignore[reportPrivateUsage]

    async def create(
        self,
        *,
        stream: bool = False,
        extra_headers: Mapping[str, str | Omit] | None = None,
        extra_query: Mapping[str, object] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        timeout: Any = not_given,  # noqa: ASYNC109  the SDK's own
        **body: Any,
    ) -> Any:
        """Send one chat request. Raises what the SDK raises."""
        given = {name: value for name, value in body.items() if not isinstance(value, _UNSENT)}
        options: dict[str, Any] = {}
        if extra_headers is not None:
            options["headers"] = extra_headers
        if extra_query is not None:
            options["params"] = extra_query
        if extra_body is not None:
            options["extra_json"] = extra_body
        if not isinstance(timeout, NotGiven):
            options["timeout"] = timeout
        return await self._post(
            "/chat/completions",
            cast_to=_Answer,
            body={**given, "stream": stream},
            options=options,
            stream=stream,
            stream_cls=AsyncStream[_Chunk],
        )


class _Answer(ChatCompletion):
    """How the SDK is told to make answers: it asks types that have `build`."""

    @classmethod
    def build(cls, *, response: object, data: Any) -> Any:
        """Return the answer that ``data`` is."""
        return _built(ChatCompletion, data)


class _Chunk(ChatCompletionChunk):
    """Likewise for the pieces of a stream."""

    @classmethod
    def build(cls, *, response: object, data: Any) -> Any:
        """Return the piece that ``data`` is."""
        return _built(ChatCompletionChunk, data)


def _built(kind: type[BaseModel], data: Any) -> Any:
    try:
        return kind.model_validate(data, strict=True)
    except ValidationError:
        # of a provider that deviates the SDK takes what there is
        return kind.construct(**cast("dict[str, Any]", data)) if isinstance(data, dict) else data
