"""Decides how little of OpenAI's SDK a chat request passes through.

Measured, of the processor time of a run whose model answers at once: the SDK walks each body along its type hints (11 %), and
pydantic-ai copies the client for each request that sets `max_retries`, as all of ours do. Neither changes a byte of what is
sent. `make bench-runtime` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openai import AsyncOpenAI, AsyncStream, NotGiven, Omit, not_given
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk

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
            cast_to=ChatCompletion,
            body={**given, "stream": stream},
            options=options,
            stream=stream,
            stream_cls=AsyncStream[ChatCompletionChunk],
        )
