"""Decides how much of an AgentLedger a Redis may hand out: chunks that are written there first, so an emptied Redis overspends nothing.

A Redis is a holder like any other, one for each of its lives (epochs): a process that has started anew, with an old state or none,
is another one, and what the last one held counts as spent. All figures are cumulative, so whoever writes them counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from agentservice_api.budget import (
    UNLIMITED,
    WINDOWS,
    ZERO,
    Amount,
    LedgerSpec,
    LedgerStatus,
    Verdict,
    WindowName,
    WindowState,
)
from agentservice_api.budget.books import presume_gone, room
from agentservice_api.budget.ledger import instant
from agentservice_runtime.ledger.api_server import StoredLedger
from agentservice_runtime.ledger.authority import Authority
from agentservice_runtime.ledger.chunk_writes import Chunk, Ended, Part, accounts, carry_out, lacks, parse, whole
from agentservice_runtime.ledger.interface import Busy, Exhausted, LedgerUnavailable
from agentservice_runtime.ledger.redis_ground import RETRY_SECONDS, Offer, Offers, milliseconds
from agentservice_runtime.ledger.redis_steps import Code, RedisSteps, Reply, Step, Word
from agentservice_runtime.ledger.slices import Ask, judge, lacking

LOGGER: Final = logging.getLogger("agentservice.ledger")
REPORT_SECONDS: Final = 3.0
"""What was billed is reported after so long, by one of the pods."""
LOCK_SECONDS: Final = 2.0
"""So long one pod may write to the AgentLedger for all; who is killed meanwhile keeps the others waiting no longer."""
WRITE_SECONDS: Final = 1.8
MAX_WAIT: Final = 0.06
"""Seconds until Redis is asked again while another pod writes."""
EAGER_SECONDS: Final = 1.0
MOST_EAGER: Final = 4
"""Chunks that are taken at once at most: more where they last for less than EAGER_SECONDS."""
LAG_SECONDS: Final = 0.1
"""So long the watch may lag behind what Redis knows before the AgentLedger is read anew."""
CLOSE_SECONDS: Final = 3.0
UNKNOWN: Final = "-"
"""No epoch's name: every step answers EPOCH."""


class Chunks:
    """A `Ground` on an `Authority`, which is opened and closed with it."""

    def __init__(self, steps: RedisSteps, *, authority: Authority, random: Callable[[], float] = random.random) -> None:
        self.epoch = UNKNOWN
        self._steps = steps
        self._authority = authority
        self._random = random
        self._uid = ""
        self._stored: StoredLedger | None = None
        self._status = LedgerStatus()
        """Rolled."""
        self._until = datetime.max
        self._offers: Offers | None = None
        self._writing = asyncio.Lock()
        self._short: list[tuple[Ask, asyncio.Future[None]]] = []
        """Reservations that wait for a chunk."""
        self._took_at = 0.0
        self._eager = 1
        self._taker: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._seen = asyncio.Event()
        authority.listen(self._look_up)

    @property
    def holder(self) -> str:
        """The name of this life of Redis in the AgentLedger."""
        return f"{self._prefix}{self.epoch}"

    @property
    def spec(self) -> LedgerSpec:
        """See `Ground.spec`."""
        return self._authority.seen().spec if self._stored is None else self._stored.spec

    async def open(self) -> Reply:
        """See `Ground.open`."""
        await self._steps.open()
        await self._authority.open()
        self.offers()
        reply = await self._begin_epoch()
        if self._reporter is None:
            self._reporter = asyncio.get_running_loop().create_task(self._keep_reporting(), name="ledger-reports")
        return reply

    async def close(self) -> None:
        """See `Ground.close`: report what is not reported, and give back what is idle; who goes on takes it again."""
        for task in (self._reporter, self._taker):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while not await self._write(closing=True):
                    await self._news(MAX_WAIT)
        except (LedgerUnavailable, TimeoutError) as error:
            LOGGER.warning("what was billed is reported later, by another process: %s", type(error).__name__)
        await self._authority.close()

    def offers(self) -> Offers:
        """See `Ground.offers`."""
        stored = self._authority.seen()
        if stored is self._stored and self._offers is not None and self._authority.now() < self._until:
            return self._offers
        if stored.metadata.uid != self._uid:
            # another object: what this Redis held of the last one is none of its business
            self._uid, self.epoch = stored.metadata.uid, UNKNOWN
            self._steps.name(f"ledger-{self._uid}")
        self._stored, self._status = stored, self._authority.rolled(stored)
        windows = [window for name in WINDOWS if (window := self._status.current(name)) is not None]
        self._until = min(instant(window.end) for window in windows)
        self._offers = Offers.of(tuple(map(self._offer, windows)))
        return self._offers

    async def ask(self, request_id: str, *, bound: Amount, minimum: Amount, lease: int) -> Reply:
        """See `Ground.ask`."""
        words = self.offers().words
        hard = int(self.spec.is_hard)
        return await self._steps.run(
            Step.DRAW, self.epoch, request_id, bound.tokens, bound.nano_usd, lease, hard, *words
        )

    async def judge(self, reply: Reply, *, bound: Amount, minimum: Amount) -> Busy | Exhausted | Amount:
        """See `Ground.judge`: the AgentLedger says whether there is more to take."""
        if reply.code is not Code.SHORT:
            await self.mend(reply)
            return bound
        told = [
            Chunk.parse(offer.window.name, offer.bounds[0], account, chunk)
            for offer, account, chunk in zip(self.offers().all, (reply.day, reply.month), reply.rest[:2], strict=True)
        ]
        pairs = accounts(self._status, self.spec, self.holder, told)
        if pairs is None or not await self._agree(told):
            return bound
        ask = Ask(bound=bound, minimum=minimum)
        verdict, amount, name = judge(pairs, ask)
        match verdict:
            case Verdict.EXHAUSTED:
                return Exhausted(window=name, resets_in=self._ends_in(name))
            case Verdict.GRANT:
                if any(lacks(pairs, amount)) or self._is_excess() or self._is_set_aside(told):
                    await self._take(ask)
                    return bound
                return amount
            case Verdict.BUSY:
                if any(lacking(one, hand, ask) for one, hand in pairs) or self._is_set_aside(told):
                    await self._take(ask)
                return Busy(retry_after=RETRY_SECONDS)

    def _is_excess(self) -> bool:
        """Tell whether more has been handed out than the limit: what is idle goes back before anything is granted."""
        return any(
            (told.tokens and told.tokens != UNLIMITED.tokens) or (told.nano_usd and told.nano_usd != UNLIMITED.nano_usd)
            for told in (offer.told for offer in self.offers().all)
        )

    def _is_set_aside(self, told: Sequence[Chunk]) -> bool:
        """Tell whether Redis has set aside what somebody was to give back."""
        return any(
            chunk.seq and chunk.whole != whole(self._status.holder(self.holder, key))
            for chunk in told
            if (key := chunk.key(self._status)) is not None
        )

    def covered(self, amount: Amount) -> tuple[Amount, ...]:
        """See `Ground.covered`: what nobody limits is not taken from the AgentLedger before."""
        return tuple(
            Amount(
                0 if offer.told.tokens == UNLIMITED.tokens else amount.tokens,
                0 if offer.told.nano_usd == UNLIMITED.nano_usd else amount.nano_usd,
            )
            for offer in self.offers().all
        )

    async def mend(self, reply: Reply) -> None:
        """See `Ground.mend`."""
        if reply.code is not Code.EPOCH:
            raise LedgerUnavailable(f"the budget's Redis gives an answer that makes no sense here: {reply.code}")
        await self._begin_epoch()

    async def report(self) -> None:
        """Write what was billed, now. Raises LedgerUnavailable."""
        while not await self._write():
            await self._news(MAX_WAIT)

    @property
    def _prefix(self) -> str:
        return f"redis-{self._steps.place}/"

    def _offer(self, window: WindowState) -> Offer:
        limit = room(self.spec, window.name)
        hand = self._status.holder(self.holder, window.key)
        excess = (window.authorized + window.overrun - limit).non_negative()
        return Offer(
            window=window.window,
            limit=self.spec.limit(window.name),
            told=Amount(
                UNLIMITED.tokens if limit.tokens == UNLIMITED.tokens else excess.tokens,
                UNLIMITED.nano_usd if limit.nano_usd == UNLIMITED.nano_usd else excess.nano_usd,
            ),
            spent=window.spent,
            posted=ZERO if hand is None else hand.spent + hand.presumed,
        )

    def _ends_in(self, name: str) -> float:
        ends = [offer.window.end for offer in self.offers().all if offer.window.name == name]
        return max(0.0, (ends[0] - self._authority.now()).total_seconds())

    async def _begin_epoch(self, *, over: str = UNKNOWN) -> Reply:
        """Learn the name of this life of Redis, and count as spent what the others held. The epoch ``over`` is ended."""
        async with self._writing:
            day, _, month, _ = self.offers().bounds
            reply = await self._steps.run(Step.LOOK, over, secrets.token_hex(4), day, month)
            epoch = reply.rest[2].decode()
            if epoch != self.epoch:
                LOGGER.info("the budget's Redis begins epoch %s", epoch)
            self.epoch, self._offers = epoch, None
            await self._presume_earlier()
            return reply

    async def _presume_earlier(self) -> None:
        """Count as spent what other lives of this Redis hold: in a write of its own, since nothing may go back in it."""
        prefix, holder = self._prefix, self.holder

        def is_over(other: str) -> bool:
            return other.startswith(prefix) and other != holder

        if any(is_over(hand.holder) for hand in self._status.holders):
            await self._authority.transact(lambda status, spec, now: presume_gone(status, is_over))

    async def _agree(self, told: list[Chunk]) -> bool:
        """Tell whether Redis and what is seen of the AgentLedger are of the same moment; if not, bring them together."""
        behind, ahead, stored = False, False, self._stored
        for chunk in told:
            key = chunk.key(self._status)
            hand = None if key is None else self._status.holder(self.holder, key)
            seq = 0 if hand is None else hand.seq
            behind, ahead = behind or chunk.seq < seq, ahead or chunk.seq > seq
        if ahead:
            if await self._news(LAG_SECONDS):
                return False
            if await self._authority.look() is stored:
                LOGGER.warning("the AgentLedger does not go on from what the budget's Redis knows: a new epoch begins")
                await self._begin_epoch(over=self.epoch)
        elif behind:
            await self._tell(self._status)
        return not (ahead or behind)

    async def _take(self, ask: Ask) -> None:
        """Return when a chunk was taken, or could not be. One at a time, for all who wait meanwhile. Raises LedgerUnavailable."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._short.append((ask, taken))
        if self._taker is None or self._taker.done():
            self._taker = asyncio.get_running_loop().create_task(self._keep_taking(), name="ledger-chunks")
        await taken

    async def _keep_taking(self) -> None:
        while self._short:
            batch, self._short = self._short, []
            failure: LedgerUnavailable | None = None
            try:
                now = asyncio.get_running_loop().time()
                if now - self._took_at > EAGER_SECONDS:
                    self._eager = 1
                if await self._write(asks=tuple(ask for ask, _ in batch)):
                    self._took_at, self._eager = now, min(2 * self._eager, MOST_EAGER)
                else:
                    await asyncio.sleep(MAX_WAIT * (0.5 + self._random()) / 1.5)
            except LedgerUnavailable as error:
                failure = error
            finally:
                for _, taken in batch:
                    if taken.done():
                        continue
                    if failure is None:
                        taken.set_result(None)
                    else:
                        taken.set_exception(LedgerUnavailable(str(failure)))

    async def _keep_reporting(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS * (0.8 + 0.4 * self._random())):
                    await self._stir.wait()
            is_asked = self._stir.is_set()
            self._stir.clear()
            try:
                await self._write(age=0 if is_asked else 0.8 * REPORT_SECONDS)
            except LedgerUnavailable as error:
                LOGGER.warning("not reported: %s", error)
            except Exception:
                # must go on: nothing else reports
                LOGGER.exception("reporting to the AgentLedger failed")
            await asyncio.sleep(0.1)

    async def _write(self, *, asks: tuple[Ask, ...] = (), closing: bool = False, age: float = 0) -> bool:
        """Write to the AgentLedger what Redis has to say, take a chunk for ``asks``, and tell Redis what it has then.

        Returns whether that was done, or needs not be; False: another pod does it. Raises LedgerUnavailable.
        """
        async with self._writing:
            self.offers()
            word, holder, status = secrets.token_hex(4), self.holder, self._status
            words: list[Word] = [self.epoch, word, round(1000 * LOCK_SECONDS), round(1000 * age)]
            for window in status.windows:
                words += self._line(status, holder, window, closing=closing)
            reply = await self._steps.run(Step.REPORT, *words)
            if reply.code is Code.NOTHING:
                return True
            if reply.code is Code.WAIT:
                return False
            if reply.code is Code.REPORT and await self._land(parse(reply.rest[0]), asks=asks, word=word):
                return True
        await self._begin_epoch(over=UNKNOWN if reply.code is Code.EPOCH else self.epoch)
        return False

    async def _land(self, report: Sequence[Part], *, asks: tuple[Ask, ...], word: str) -> bool:
        """Write, and tell Redis. Returns false when the AgentLedger does not go on from what Redis knows."""
        holder, eager = self.holder, self._eager
        await self._presume_earlier()

        def change(status: LedgerStatus, spec: LedgerSpec, now: datetime) -> LedgerStatus:
            return carry_out(status, spec, holder, report, asks=asks, eager=eager)

        try:
            status = await self._authority.transact(change, seconds=WRITE_SECONDS)
        except Ended:
            # the watch may lag behind another pod's write, which Redis knows already
            await self._authority.look()
            try:
                status = await self._authority.transact(change, seconds=WRITE_SECONDS)
            except Ended:
                LOGGER.warning("the AgentLedger does not go on from what the budget's Redis knows: a new epoch begins")
                return False
        await self._tell(status, word=word)
        return True

    async def _tell(self, status: LedgerStatus, *, word: str = "") -> None:
        words: list[Word] = [self.epoch, word]
        for window in status.windows:
            hand = status.holder(self.holder, window.key)
            if hand is not None:
                amounts = whole(hand), hand.spent
                words += [
                    *_place(window),
                    hand.seq,
                    *(unit for each in amounts for unit in (each.tokens, each.nano_usd)),
                ]
        await self._steps.run(Step.TELL, *words)

    def _line(self, status: LedgerStatus, holder: str, window: WindowState, *, closing: bool) -> list[Word]:
        """Return one window as `report` reads it."""
        hand = status.holder(holder, window.key)
        excess = (window.authorized + window.overrun - room(self.spec, window.name)).non_negative()
        at_once = closing or window is not status.current(window.name)
        spare = UNLIMITED if at_once else excess or window.wanted
        spent, seq = (ZERO, 0) if hand is None else (hand.spent, hand.seq)
        amounts = (spent.tokens, spent.nano_usd, spare.tokens, spare.nano_usd)
        return [*_place(window), seq, *amounts, int(at_once or bool(excess))]

    async def _news(self, seconds: float) -> bool:
        """Tell whether something changes in the AgentLedger within so many seconds."""
        self._seen.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._seen.wait()
        except TimeoutError:
            return False
        return True  # whatever the next one has cleared meanwhile

    def _look_up(self) -> None:
        """Something has changed in the AgentLedger: perhaps others wait for what is idle here, or the limit has fallen."""
        self._seen.set()
        with contextlib.suppress(LedgerUnavailable):
            stored = self._authority.seen()
            for window in stored.status.windows:
                pool = room(stored.spec, window.name) - window.authorized - window.overrun
                if window.wanted or pool.tokens < 0 or pool.nano_usd < 0:
                    self._stir.set()


def _place(window: WindowState) -> tuple[int, int]:
    """Return a window's number and start, as the scripts name it."""
    return WINDOWS.index(WindowName(window.name)) + 1, milliseconds(instant(window.start))
