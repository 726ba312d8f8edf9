"""Decides when a connection is too slow: requests that trickle in, answers that nobody reads.

uvicorn times only idle connections between requests. Here each phase has one deadline that no byte extends: the
request's head, its body, and a write that makes no progress. What misses it is cut off, so a crowd of slow clients
costs a few sockets for a few seconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds that a connection may take for each phase."""

    head_seconds: float = 10.0
    body_seconds: float = 30.0
    """More than the body's own timeout (`body.READ_SECONDS`), which answers 408 first."""
    write_seconds: float = 30.0


def impatient(patience: Patience) -> type[H11Protocol]:
    """Return the protocol class that keeps ``patience``."""

    class ImpatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._phase: str | None = None
            self._deadline: asyncio.TimerHandle | None = None
            self._write_deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._enter("head", patience.head_seconds)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch(received=True)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch(received=bool(self.conn.trailing_data[0]))

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

        def _watch(self, *, received: bool) -> None:
            state = self.conn.their_state
            if state is h11.SEND_BODY:
                self._enter("body", patience.body_seconds)
            elif state is h11.IDLE and received:
                self._enter("head", patience.head_seconds)
            else:
                self._leave()

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
