"""Decides how a process's steps share one connection to Redis: they are sent as they come, and answered in that order.

Redis carries out one script at a time however many connections there are, so more of them would only be more to keep. Nobody waits for a
free one, and there is one clock for all who wait: an answer that is late ends the connection, for those behind it are later still.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TookTooLong

FAILURES: Final = (RedisError, OSError)
"""What a connection ends with; a time-out of asyncio's is an OSError."""


class Line:
    """One connection, made when it is needed and again after it was lost. Methods belong to one loop."""

    def __init__(self, make: Callable[[], AbstractConnection], *, seconds: float) -> None:
        """``make`` returns a connection that is not connected yet; ``seconds`` are those for connecting, and for each answer."""
        self._make = make
        self._seconds = seconds
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        """Who waits for an answer, in the order of asking, and until when, by the loop's clock."""
        self._reader: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and self._connection.is_connected

    async def ask(self, command: bytes) -> Any:
        """Send a packed command and return its answer. Raises RedisError, and OSError where there is no Redis.

        Whoever is cancelled while it waits does not know whether the command was carried out.
        """
        connection = self._connection
        if connection is not None and not connection.is_connected:
            # it would connect again by itself, and answer in another order than was asked
            self._end(connection, ConnectionLost("it is closed"))
            connection = None
        if connection is None:
            connection = await self._connected()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._asked.append((answer, loop.time() + self._seconds))
        if self._alarm is None:
            self._alarm = loop.call_later(self._seconds, self._look)
        try:
            # nothing is awaited before it is written, so the order of asking is that of sending
            await connection.send_packed_command(command, check_health=False)
        except BaseException:
            answer.cancel()
            self._end(connection, ConnectionLost("it cannot be written to"))
            raise
        return await answer

    async def close(self) -> None:
        """End the connection; who waits is told that it was lost."""
        self._is_closed = True
        reader = self._reader
        self._end(self._connection, ConnectionLost("closed"))
        if reader is not None:
            await asyncio.wait([reader])

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is not None:
                return self._connection
            connection = self._make()
            try:
                async with asyncio.timeout(self._seconds):
                    await connection.connect()
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            if self._is_closed:
                await connection.disconnect(nowait=True)
                raise ConnectionLost("closed")
            self._connection = connection
            self._reader = asyncio.get_running_loop().create_task(self._read(connection), name="ledger-redis")
            return connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Give each answer to the first who waits, until there are no more."""
        failure: BaseException = ConnectionLost("closed")
        read = cast("Callable[..., Awaitable[Any]]", connection.read_response)
        try:
            while True:
                try:
                    said = await read(timeout=math.inf, disconnect_on_error=False)
                except ResponseError as error:
                    said = error
                answer, _ = self._asked.popleft()
                if answer.done():
                    continue
                if isinstance(said, ResponseError):
                    answer.set_exception(said)
                else:
                    answer.set_result(said)
        except FAILURES as error:
            failure = error
        except Exception:
            # an answer that nobody asked for, or one that is none
            failure = ConnectionLost("it makes no sense")
        finally:
            self._end(connection, failure)
            await connection.disconnect(nowait=True)

    def _look(self) -> None:
        """See whether an answer is late."""
        self._alarm = None
        if not self._asked:
            return
        loop = asyncio.get_running_loop()
        left = self._asked[0][1] - loop.time()
        if left > 0:
            self._alarm = loop.call_later(left, self._look)
        else:
            self._end(self._connection, TookTooLong("no answer in time"))

    def _end(self, connection: AbstractConnection | None, failure: BaseException) -> None:
        """Tell all who wait, and have the next one make another connection."""
        if connection is None or connection is not self._connection:
            return
        self._connection = None
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        asked = tuple(self._asked)
        self._asked.clear()
        for answer, _ in asked:
            if not answer.done():
                answer.set_exception(failure)


def packed(*words: str | int | float | bytes) -> bytes:
    """Return a command as RESP has it."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(packed_word, words)))


def packed_word(word: str | int | float | bytes) -> bytes:
    """Return one word of a command as RESP has it."""
    told = word if isinstance(word, bytes) else str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(told), told)
