"""Decides how long a request waits for its reservation, and that each reservation is renewed and settled.

All of it happens on the loop that opened the ledger: an agent that a tool runs with `run_sync` lives on a thread and a
loop of its own, and asks from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from agentservice_api.budget import Amount, ModelSpend
from agentservice_runtime.ledger.interface import (
    RENEW_SECONDS,
    Answer,
    AtOnce,
    Busy,
    Granted,
    Ledger,
    LedgerUnavailable,
    Spend,
)
from agentservice_runtime.logs import LOGGER

PATIENCE_SECONDS: Final = 10.0
"""How long a request waits for reservations in flight to settle for less than they hold."""
_FOREIGN_SECONDS: Final = PATIENCE_SECONDS + 20
"""From another thread: longer than the ledger may take. Whoever blocks the ledger's own loop meanwhile is told so."""
_QUEUED_RETRY_SECONDS: Final = 1.0
_OPEN_SECONDS: Final = 5.0
_OPEN_AGAIN_SECONDS: Final = (0.2, 5.0)
"""The first pause and the longest."""
_CLOSE_SECONDS: Final = 1.5
_NOTHING: Final = ModelSpend(name="-")

T = TypeVar("T")


class Desk:
    """Opens the ledger, reserves, renews and settles. `open` and `close` belong to one loop, which the ledger then keeps."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger = ledger
        self._at_once = ledger if isinstance(ledger, AtOnce) else None
        self._patience = patience_seconds
        self._clock = clock
        self._held: set[str] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._logger = logging.getLogger(f"{LOGGER}.budget")

    async def open(self) -> None:
        """Open the ledger; while it cannot be reached go on trying, and return all the same."""
        self._loop = asyncio.get_running_loop()
        if not await self._try_to_open(log=True):
            self._background.append(self._loop.create_task(self._keep_opening()))
        self._background.append(self._loop.create_task(self._renew()))

    async def close(self) -> None:
        """Wait a moment until all is settled, then close the ledger."""
        for task in self._background:
            task.cancel()
        if self._settling:
            await asyncio.wait(self._settling, timeout=_CLOSE_SECONDS)
        if self.is_open:
            await self.ledger.close()

    @property
    def is_open(self) -> bool:
        """Whether the ledger has been reached once."""
        return self._is_open.is_set()

    @property
    def in_flight(self) -> int:
        """Reservations that are not settled."""
        return len(self._held)

    def reserve_now(self, request_id: str, bound: Amount) -> bool:
        """Reserve all of ``bound`` if the ledger can do so at once and nobody waits. False: nothing was done, call `reserve`."""
        now = self._at_once
        if now is None or self._turn.locked() or not self._is_open.is_set():
            return False
        if asyncio.get_running_loop() is not self._loop or not now.reserve_now(request_id, bound):
            return False
        self._held.add(request_id)
        return True

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        """Return the ledger's answer; Busy only after waiting for `patience_seconds`. Raises LedgerUnavailable.

        Whoever came first is served first. A request that is cancelled while it waits holds nothing.
        """
        try:
            if asyncio.get_running_loop() is not self._loop or not self._is_open.is_set() or self._turn.locked():
                return await self._on_loop(self._reserve(request_id, bound=bound, minimum=minimum))
            answer = await self._ask(request_id, bound=bound, minimum=minimum)
            if isinstance(answer, Busy):
                return await self._wait(request_id, bound=bound, minimum=minimum)
            return answer
        except LedgerUnavailable:
            raise
        except TimeoutError:
            self.give_back(request_id)
            raise LedgerUnavailable("the loop that keeps the budget is blocked") from None
        except BaseException:
            # it is not known whether the ledger has done it: what it may hold goes back
            self.give_back(request_id)
            raise

    def give_back(self, request_id: str) -> None:
        """Settle for nothing a reservation whose request never left."""
        self.settle(request_id, _NOTHING)

    def settle(self, request_id: str, spend: ModelSpend) -> None:
        """Begin to replace the reservation by what was billed.

        Nobody waits for it: until it is done the reservation stands, so nothing can be spent twice, and it is done
        whatever becomes of the caller.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            self._logger.error("a request was not settled: the budget's ledger is closed")
        elif asyncio.get_running_loop() is loop:
            self._begin_settling(request_id, spend)
        else:
            loop.call_soon_threadsafe(self._begin_settling, request_id, spend)

    def settle_now(self, request_id: str, spend: Spend) -> bool:
        """Settle if the ledger can do so at once. False: nothing was done, call `settle`."""
        now = self._at_once
        if now is None or not self._is_open.is_set() or asyncio.get_running_loop() is not self._loop:
            return False
        if not now.settle_now(request_id, spend):
            return False
        self._held.discard(request_id)
        return True

    def _begin_settling(self, request_id: str, spend: ModelSpend) -> None:
        if self.settle_now(request_id, spend):
            return
        task = asyncio.get_running_loop().create_task(self._settle(request_id, spend))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, request_id: str, spend: ModelSpend) -> None:
        self._held.discard(request_id)
        if not self._is_open.is_set():  # served without a reservation: it is counted once the ledger is there
            await self._is_open.wait()
        try:
            await self.ledger.settle(request_id, spend)
        except Exception:
            # a ledger keeps what it cannot write; one that does not must not take the run with it
            self._logger.exception("settling failed")

    async def _reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        if not self._turn.locked():
            answer = await self._ask(request_id, bound=bound, minimum=minimum)
            if not isinstance(answer, Busy):
                return answer
        return await self._wait(request_id, bound=bound, minimum=minimum)

    async def _wait(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        deadline = self._clock() + self._patience
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            return Busy(retry_after=_QUEUED_RETRY_SECONDS)
        try:
            while True:
                answer = await self._ask(request_id, bound=bound, minimum=minimum)
                left = deadline - self._clock()
                if not isinstance(answer, Busy) or left <= 0:
                    return answer
                await self.ledger.changed(min(max(answer.retry_after, 0.0), left))
        finally:
            self._turn.release()

    async def _ask(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        answer = await self.ledger.reserve(request_id, bound=bound, minimum=minimum)
        if isinstance(answer, Granted):
            self._held.add(request_id)
        return answer

    async def _try_to_open(self, *, log: bool) -> bool:
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self.ledger.open()
        except (LedgerUnavailable, TimeoutError) as error:
            if log:
                self._logger.warning("the budget's ledger cannot be reached yet: %s", error or "it does not answer")
            return False
        self._is_open.set()
        return True

    async def _keep_opening(self) -> None:
        pause = _OPEN_AGAIN_SECONDS[0]
        while True:
            await asyncio.sleep(pause)
            try:
                if await self._try_to_open(log=False):
                    self._logger.info("the budget's ledger is open")
                    return
            except Exception:
                self._logger.exception("opening the budget's ledger failed")
            pause = min(pause * 2, _OPEN_AGAIN_SECONDS[1])

    async def _renew(self) -> None:
        # twice as often as needed: a reservation that was made just after one round waits for two
        while True:
            await asyncio.sleep(RENEW_SECONDS / 2)
            held = tuple(self._held)
            results = await asyncio.gather(*map(self.ledger.renew, held), return_exceptions=True)
            failed = sum(isinstance(result, Exception) for result in results)
            if failed:
                self._logger.warning("%d of %d reservations were not renewed", failed, len(held))

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            loop = self._opened()
        except LedgerUnavailable:
            work.close()
            raise
        if asyncio.get_running_loop() is loop:
            return await work
        async with asyncio.timeout(_FOREIGN_SECONDS):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    def _opened(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed() or not self.is_open:
            raise LedgerUnavailable("the budget's ledger is not open")
        return self._loop
