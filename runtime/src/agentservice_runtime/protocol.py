"""Decides when a connection is too slow or a head too long: requests that trickle in, answers that nobody reads.

uvicorn times only idle connections between requests. Here each phase has one deadline that no byte extends: the
request's head, its body, and a write that makes no progress. What misses it is cut off, so a crowd of slow clients
costs a few sockets for a few seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 65_536
"""Of a request's first line and headers; the parser itself knows no end."""
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds that a connection may take for each phase."""

    head_seconds: float = 10.0
    body_seconds: float = 30.0
    """More than the body's own timeout (`body.READ_SECONDS`), which answers 408 first."""
    write_seconds: float = 30.0


def impatient(patience: Patience) -> type[HttpToolsProtocol]:
    """Return the protocol class that keeps ``patience``."""

    class ImpatientProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._phase: str | None = None
            self._head_bytes = 0
            self._deadline: asyncio.TimerHandle | None = None
            self._write_deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._enter("head", patience.head_seconds)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._phase == "head":
                self._head_bytes += len(data)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self.transport.write(_TOO_LARGE)
                    self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_bytes = 0
            self._enter("head", patience.head_seconds)

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._await_body()

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._leave()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._phase is None and self.cycle.more_body:
                self._await_body()

        def connection_lost(self, exc: Exception | None) -> None:
            self._leave()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._write_deadline = self.loop.call_later(patience.write_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            if self._write_deadline is not None:
                self._write_deadline.cancel()
                self._write_deadline = None
            super().resume_writing()

        def _await_body(self) -> None:
            if self.pipeline:  # nothing is read before the answer to the request before it
                self._leave()
            else:
                self._enter("body", patience.body_seconds)

        def _enter(self, phase: str, seconds: float) -> None:
            if self._phase == phase:
                return
            self._leave()
            self._phase = phase
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

        def _leave(self) -> None:
            self._phase = None
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return ImpatientProtocol
