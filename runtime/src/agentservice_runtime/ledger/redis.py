"""Decides how a budget is kept in Redis, for all processes that share it: each step is one atomic script.

What is billed is never dropped: what Redis does not take is kept and offered again until it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import orjson

from agentservice_api.budget import WINDOWS, ZERO, Amount, LedgerSpec, ModelSpend
from agentservice_api.budget.books import Calendar, calendar
from agentservice_runtime.ledger.authority import Authority, authority_of
from agentservice_runtime.ledger.interface import (
    LEASE_SECONDS,
    Answer,
    Busy,
    Granted,
    LedgerUnavailable,
    WindowView,
)
from agentservice_runtime.ledger.redis_chunks import Chunks
from agentservice_runtime.ledger.redis_ground import RETRY_SECONDS, Alone, Ground, models_of
from agentservice_runtime.ledger.redis_steps import Code, RedisSteps, Reply, Step, Word, account
from agentservice_runtime.ledger.turns import Turns

LOGGER: Final = logging.getLogger("agentservice.ledger")
ATTEMPTS: Final = 8
"""So often a reservation is asked for before it is BUSY: between them windows are opened and more is taken."""
PAY_AGAIN_SECONDS: Final = (0.1, 3.0)
"""The first pause and the longest between two tries to settle."""
CLOSE_SECONDS: Final = 3.0
REMEMBERED: Final = 10_000


class RedisLedger:
    """A `Ledger` (see `interface`) on a `Ground`."""

    def __init__(self, steps: RedisSteps, ground: Ground, *, lease_seconds: float = LEASE_SECONDS) -> None:
        """``steps`` and ``ground`` are opened and closed with this; a reservation that is not renewed lives ``lease_seconds``."""
        self._steps = steps
        self._ground = ground
        self._lease = round(1000 * lease_seconds)
        self._held: dict[str, tuple[str, tuple[Amount, ...]]] = {}
        """Reservations of this process that are not settled: the life of Redis that they were made in, and what
        of each window counts as spent if it ends."""
        self._owed: dict[str, ModelSpend] = {}
        self._settled = OrderedDict[str, None]()
        """The last ones: in another life of Redis nobody else remembers them."""
        self._payer: asyncio.Task[None] | None = None
        self._turns = Turns()
        self._told: dict[int, tuple[int, bytes]] = {}
        """By index of WINDOWS: the start (ms) of the window last told of, and its account."""

    @property
    def spec(self) -> LedgerSpec:
        """See `Ledger.spec`."""
        return self._ground.spec

    async def open(self) -> None:
        """See `Ledger.open`."""
        reply = await self._ground.open()
        self._tell(reply, *(told.split()[0] if told else 0 for told in reply.rest[:2]))

    async def close(self) -> None:
        """See `Ledger.close`. What is still reserved is presumed spent when its lease ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._settle_owed()
        if self._payer is not None:
            self._payer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._payer
        if self._owed:
            LOGGER.error("the budget's Redis has not taken %d settlements: they count as reserved", len(self._owed))
        await self._ground.close()
        await self._steps.close()

    async def reserve(self, request_id: str, *, bound: Amount, minimum: Amount) -> Answer:
        """See `Ledger.reserve`."""
        ground, asked = self._ground, bound
        for _ in range(ATTEMPTS):
            offers, epoch = ground.offers(), ground.epoch
            reply = await ground.ask(request_id, bound=asked, minimum=minimum, lease=self._lease)
            if reply.day:
                self._tell(reply, offers.bounds[0], offers.bounds[2])
            if reply.code is Code.GRANT:
                amount = Amount(*map(int, reply.rest[-2:]))
                self._held[request_id] = (epoch, ground.covered(amount))
                return Granted(amount=amount)
            answer = await ground.judge(reply, bound=bound, minimum=minimum)
            if not isinstance(answer, Amount):
                return answer
            asked = answer
        return Busy(retry_after=RETRY_SECONDS)

    async def renew(self, request_id: str) -> None:
        """See `Ledger.renew`."""
        if request_id not in self._held:
            return
        await self._steps.run(Step.RENEW, self._ground.epoch, self._lease, request_id)

    async def settle(self, request_id: str, spend: ModelSpend) -> None:
        """See `Ledger.settle`."""
        if request_id in self._settled:
            return
        self._owed[request_id] = spend
        try:
            await self._settle(request_id, spend)
        except LedgerUnavailable as error:
            LOGGER.warning("a settlement waits for the budget's Redis: %s", error)
        finally:
            if request_id in self._owed and (self._payer is None or self._payer.done()):
                self._payer = asyncio.get_running_loop().create_task(self._keep_settling(), name="ledger-settling")
        self._turns.call()

    async def changed(self, seconds: float) -> None:
        """See `Ledger.changed`."""
        await self._turns.changed(seconds)

    def view(self) -> tuple[WindowView, ...]:
        """See `Ledger.view`."""
        try:
            offers = self._ground.offers()
        except LedgerUnavailable:
            return ()
        views: list[WindowView] = []
        for index, offer in enumerate(offers.all):
            start, told = self._told.get(index, (0, b""))
            figures = account(told) if start == offer.bounds[0] else ()
            spent, reserved = offer.spent, ZERO
            if figures:
                reserved = Amount(figures[4], figures[5])
                own = Amount(figures[0] + figures[2], figures[1] + figures[3])
                spent += (own - offer.posted).non_negative()
            views.append(
                WindowView(
                    name=offer.window.name,
                    start=offer.window.start,
                    end=offer.window.end,
                    limit=offer.limit,
                    spent=spent,
                    reserved=reserved,
                )
            )
        return tuple(views)

    def _tell(self, reply: Reply, day: Word | bytes, month: Word | bytes) -> None:
        self._told = {0: (int(day), reply.day), 1: (int(month), reply.month)}

    async def _settle(self, request_id: str, spend: ModelSpend) -> None:
        label = orjson.dumps([spend.name, spend.price]).decode()
        for _ in range(ATTEMPTS):
            epoch, owed = self._ground.epoch, (spend.amount,) * len(WINDOWS)
            made_in, covered = self._held.get(request_id, (epoch, ()))
            if made_in != epoch:
                # what it held is presumed spent with the life of Redis that it was made in: only what is beyond is owed
                owed = tuple((spend.amount - part).non_negative() for part in covered)
                if not any(owed):
                    break
            bounds = self._ground.offers().bounds
            billed = [unit for part in owed for unit in (part.tokens, part.nano_usd)]
            reply = await self._steps.run(Step.SETTLE, epoch, request_id, *billed, label, *bounds)
            if reply.code in (Code.STALE, Code.EPOCH):
                await self._ground.mend(reply)
                continue
            if reply.rest:
                self._tell(reply, *reply.rest)
            break
        else:
            raise LedgerUnavailable("the budget's Redis changes its windows too often")
        self._held.pop(request_id, None)
        self._settled[request_id] = None
        if len(self._settled) > REMEMBERED:
            self._settled.popitem(last=False)
        if self._owed.get(request_id) is spend:
            del self._owed[request_id]

    async def _keep_settling(self) -> None:
        pause = PAY_AGAIN_SECONDS[0]
        while self._owed:
            await asyncio.sleep(pause)
            await self._settle_owed()
            pause = min(2 * pause, PAY_AGAIN_SECONDS[1])

    async def _settle_owed(self) -> None:
        for request_id, spend in tuple(self._owed.items()):
            try:
                await self._settle(request_id, spend)
            except LedgerUnavailable:
                return


class StandaloneRedisLedger(RedisLedger):
    """The ledger of ``name`` (namespace/name) in a Redis that stands alone: all that is known of the budget is there."""

    def __init__(
        self,
        url: Callable[[], str],
        *,
        name: str,
        terms: LedgerSpec,
        calendar: Calendar = calendar,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """``url`` is asked again when Redis cannot be used: a password may have been replaced."""
        steps = RedisSteps(url)
        self._alone = Alone(steps, account=name, terms=terms, calendar=calendar)
        super().__init__(steps, self._alone, lease_seconds=lease_seconds)

    def change(self, terms: LedgerSpec) -> None:
        """Let other limits, prices or another zone hold from now on."""
        self._alone.change(terms)

    async def models(self) -> dict[tuple[str, datetime], tuple[ModelSpend, ...]]:
        """Return what each model cost, by name and start of the window. Raises LedgerUnavailable."""
        return models_of((await self._steps.run(Step.BOOKS, "")).rest[0])


class ClusterRedisLedger(RedisLedger):
    """The ledger of an AgentService in a cluster: Redis hands out what the AgentLedger has given it, and no more."""

    def __init__(self, url: Callable[[], str], *, authority: Authority, lease_seconds: float = LEASE_SECONDS) -> None:
        """``authority`` is opened and closed with this; ``url`` is asked again when Redis cannot be used."""
        steps = RedisSteps(url)
        self._chunks = Chunks(steps, authority=authority)
        super().__init__(steps, self._chunks, lease_seconds=lease_seconds)

    async def report(self) -> None:
        """Write to the AgentLedger what was billed, now. Raises LedgerUnavailable."""
        await self._chunks.report()


def in_pod(url: Callable[[], str], *, name: str, environment: Mapping[str, str]) -> ClusterRedisLedger:
    """Return the ledger of the AgentService ``name`` whose pod this is. Raises LedgerUnavailable outside of a pod."""
    return ClusterRedisLedger(url, authority=authority_of(name, environment=environment))
