"""Decides how little of OpenAI's SDK a chat request passes through.

Measured, of the processor time of a run whose model answers at once: the SDK walks each body along its type hints (11 %), and
pydantic-ai copies the client for each request that sets `max_retries`, as all of ours do. Neither changes a byte of what is
sent. Of a stream a sixth goes into building each chunk along its type hints, in Python; pydantic's validator makes the same of it in a
twentieth of the time. Most events are one line of JSON, which it reads from the bytes as they come. `make bench-runtime` tells.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, cast

from openai import AsyncOpenAI, AsyncStream, BaseModel, NotGiven, Omit, not_given
from openai._streaming import SSEDecoder
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

_UNSENT: Final = (NotGiven, Omit)
_LONG: Final = 1 << 16
"""Bytes of an event that comes in pieces, beyond which the SDK puts it together: it does not copy the first ones again for each."""


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
            stream_cls=_Chunks,
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


class _Chunks(AsyncStream[_Chunk]):
    """The SDK's stream, which reads events by the short way until one comes that it cannot take, `[DONE]` at the latest."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._decoder = _Decoder()

    async def __stream__(self) -> AsyncGenerator[Any]:
        try:
            async for chunk in self._iter_events():
                yield chunk
            async for chunk in super().__stream__():
                yield chunk
        finally:
            await self.response.aclose()


class _Decoder(SSEDecoder):
    """Reads chunks at first, and from the first event on that is none, or whose lines end in another way, events as the SDK does."""

    def __init__(self) -> None:
        super().__init__()
        self._left: AsyncIterator[bytes] | None = None

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncGenerator[Any]:
        """Yield the chunks in what ``iterator`` yields; asked again, the events that are left."""
        if self._left is not None:
            async for event in super().aiter_bytes(self._left):
                yield event
            return
        rest = b""
        async for piece in iterator:
            *events, rest = (rest + piece).split(b"\n\n")
            for number, event in enumerate(events):
                if event.startswith(b":") and b"\n" not in event:
                    continue  # a comment, which keeps the line alive
                chunk = _plain(event)
                if chunk is None:
                    rest = b"\n\n".join((*events[number:], rest))
                    break
                yield chunk
            else:
                if b"\r" not in piece and len(rest) <= _LONG:
                    continue
            break
        self._left = _chain(rest, iterator)


def _plain(event: bytes) -> ChatCompletionChunk | None:
    """Return the chunk that an event is, where it is one line of what the type says. Some providers tell errors in chunks."""
    if not event.startswith(b"data:"):
        return None
    try:
        chunk = ChatCompletionChunk.model_validate_json(event[5:], strict=True)
    except ValidationError:
        return None
    return None if (chunk.model_extra or {}).get("error") else chunk


async def _chain(first: bytes, others: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for other in others:
        yield other


def _built(kind: type[BaseModel], data: Any) -> Any:
    try:
        return kind.model_validate(data, strict=True)
    except ValidationError:
        # of a provider that deviates the SDK takes what there is
        return kind.construct(**cast("dict[str, Any]", data)) if isinstance(data, dict) else data
