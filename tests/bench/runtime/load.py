"""Sends requests with as little work as possible, and tells how long the first token took and what came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_DELTA, _RESULT, _END = b"event: delta", b"ent: result", b"\r\n0\r\n\r\n"


@dataclass(kw_only=True)
class Load:
    """So many requests of so many clients, each with a connection of its own. No two of all batches are equal."""

    port: int
    path: str
    requests: int
    at_once: int
    batch: str
    first: list[float] = field(default_factory=list[float])
    """Seconds to the first delta of each stream."""
    deltas: list[int] = field(default_factory=list[int])
    """Of each stream."""

    async def send(self) -> None:
        """Send them all. Raises AssertionError for an answer that is not 200 or that is cut off."""
        numbers = iter(range(self.requests))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.at_once):
                tasks.create_task(self._client(numbers))

    async def _client(self, numbers: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for number in numbers:
                await self._one(reader, writer, f"What is the meaning of this number: {self.batch}-{number}?")
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> None:
        body = json.dumps({"input": text}).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        began = time.perf_counter()
        writer.write(head.encode() + b"\r\n\r\n" + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200"), answer
        if b"content-length:" in answer:
            await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
            return
        # whatever has come is taken at once: this process shares its processor with the model server, which must not wait for it
        deltas, rest, has_result = 0, b"", False
        while not rest.endswith(_END):
            came = await reader.read(1 << 16)
            assert came, rest
            told = rest + came
            found = told.count(_DELTA)
            if found and not deltas:
                self.first.append(time.perf_counter() - began)
            deltas += found
            has_result = has_result or _RESULT in told
            rest = told[1 - len(_DELTA) :]  # one that is cut in two is counted when it is whole
        assert has_result, rest
        self.deltas.append(deltas)
