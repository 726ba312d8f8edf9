"""A TCP proxy that can be cut, or that loses answers: what a network does to a client, on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from enum import StrEnum


class Fault(StrEnum):
    """What the proxy does to every connection from now on."""

    NONE = "NONE"
    CUT = "CUT"
    """Nothing passes: open connections are closed, new ones too."""
    LOSE_ANSWERS = "LOSE_ANSWERS"
    """What the client sends arrives; the connection ends with the first byte that comes back."""


class TcpProxy:
    """Listens on 127.0.0.1 and forwards to ``port`` there. An async context manager."""

    def __init__(self, *, port: int) -> None:
        self._upstream = port
        self._connections: set[asyncio.StreamWriter] = set()
        self._fault = Fault.NONE
        self.lost = 0
        """Answers that were lost."""

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._close_all()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def set(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.CUT:
            self._close_all()

    def _close_all(self) -> None:
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is Fault.CUT:
            writer.transport.abort()
            return
        try:
            from_upstream, to_upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, to_upstream}
        self._connections |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, to_upstream))
                tasks.create_task(self._pump(from_upstream, writer, is_answer=True))
        finally:
            self._connections -= both
            for each in both:
                each.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if is_answer and self._fault is Fault.LOSE_ANSWERS:
                    self.lost += 1
                    break
                sink.write(data)
                await sink.drain()
        # one direction's end is the connection's
        for writer in self._connections & {sink}:
            writer.close()
