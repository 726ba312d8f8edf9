"""Decides what a Redis budget stands on, and how where there is no cluster: its own clock and accounts, terms from the configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import orjson

from agentservice_api.budget import WINDOWS, ZERO, Amount, LedgerSpec, ModelSpend, Window
from agentservice_api.budget.books import Calendar, calendar
from agentservice_api.budget.windows import UnknownTimeZone
from agentservice_runtime.ledger.interface import Busy, Exhausted, LedgerUnavailable
from agentservice_runtime.ledger.redis_steps import Code, RedisSteps, Reply, Step, Word

RETRY_SECONDS: Final = 1.0
_MS: Final = timedelta(milliseconds=1)
_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A window as a step is told of it."""

    window: Window
    limit: Amount
    told: Amount
    """As `reserve` reads it, the limit; as `draw` does, what is handed out beyond it."""
    spent: Amount = ZERO
    """What the AgentLedger shows as spent."""
    posted: Amount = ZERO
    """What of that this Redis has reported."""

    @property
    def bounds(self) -> tuple[int, int]:
        """Start and end in ms."""
        return milliseconds(self.window.start), milliseconds(self.window.end)

    @property
    def words(self) -> tuple[Word, ...]:
        """As `reserve` and `draw` read it."""
        return *self.bounds, self.told.tokens, self.told.nano_usd


@dataclass(frozen=True, slots=True)
class Offers:
    """The current windows, as they are now."""

    all: tuple[Offer, ...]
    words: tuple[Word, ...]
    """For `reserve` and `draw`."""
    bounds: tuple[Word, ...]
    """For `settle`."""

    @staticmethod
    def of(offers: tuple[Offer, ...]) -> Offers:
        """Spell them out once: they are sent with every step."""
        return Offers(
            offers,
            tuple(word for offer in offers for word in offer.words),
            tuple(word for offer in offers for word in offer.bounds),
        )


class Ground(Protocol):
    """What tells a Redis budget which windows there are, and how much of them Redis may hand out."""

    epoch: str
    """The life of Redis that is spoken with; empty where it does not matter."""

    @property
    def spec(self) -> LedgerSpec:
        """The terms in force. Raises LedgerUnavailable before they are known."""
        ...

    async def open(self) -> Reply:
        """Begin, and return what LOOK answers; may be called again. Raises LedgerUnavailable."""
        ...

    async def close(self) -> None:
        """Give back what is idle. Never raises."""
        ...

    def offers(self) -> Offers:
        """Return the current windows. Raises LedgerUnavailable."""
        ...

    async def ask(self, request_id: str, *, bound: Amount, minimum: Amount, lease: int) -> Reply:
        """Ask Redis for a reservation that lives ``lease`` ms if it is not renewed. Raises LedgerUnavailable."""
        ...

    async def judge(self, reply: Reply, *, bound: Amount, minimum: Amount) -> Busy | Exhausted | Amount:
        """Return what a reply that grants nothing means; an amount: ask again, for so much. Raises LedgerUnavailable."""
        ...

    def covered(self, amount: Amount) -> tuple[Amount, ...]:
        """Return what of a grant counts as spent in each of WINDOWS if this life of Redis ends."""
        ...

    async def mend(self, reply: Reply) -> None:
        """Do what a step's STALE or EPOCH asks for. Raises LedgerUnavailable when it cannot be done."""
        ...


class Alone:
    """Redis keeps everything. What it loses is forgotten: the documentation says so, and what to turn on."""

    epoch = ""

    def __init__(
        self,
        steps: RedisSteps,
        *,
        account: str,
        terms: LedgerSpec,
        calendar: Calendar = calendar,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = steps
        self._terms = terms
        self._calendar = calendar
        self._monotonic = monotonic
        self._epoch_ms = 0.0
        """Redis' clock, in ms, when ``monotonic`` was 0."""
        self._known: tuple[Window | None, ...] = (None,) * len(WINDOWS)
        """As Redis has them."""
        self._offers: Offers | None = None
        self._until = 0.0
        steps.name(f"{account}:alone")

    @property
    def spec(self) -> LedgerSpec:
        """See `Ground.spec`."""
        return self._terms

    def change(self, terms: LedgerSpec) -> None:
        """Let other limits, prices or another zone hold from now on."""
        self._terms = terms
        self._offers = None

    async def open(self) -> Reply:
        """See `Ground.open`."""
        await self._steps.open()
        reply = await self._steps.run(Step.LOOK, "", "")
        self._learn(reply)
        return reply

    async def close(self) -> None:
        """See `Ground.close`."""

    def offers(self) -> Offers:
        """See `Ground.offers`."""
        now = self._monotonic()
        if self._offers is None or now >= self._until:
            moment = _1970 + _MS * (self._epoch_ms + 1000 * now)
            offers = tuple(self._offer(index, moment) for index in range(len(WINDOWS)))
            self._offers = Offers.of(offers)
            self._until = (min(milliseconds(offer.window.end) for offer in offers) - self._epoch_ms) / 1000
        return self._offers

    async def ask(self, request_id: str, *, bound: Amount, minimum: Amount, lease: int) -> Reply:
        """See `Ground.ask`."""
        return await self._steps.run(
            Step.RESERVE,
            self.epoch,
            request_id,
            bound.tokens,
            bound.nano_usd,
            minimum.tokens,
            minimum.nano_usd,
            lease,
            int(self.spec.is_hard),
            *self.offers().words,
        )

    async def judge(self, reply: Reply, *, bound: Amount, minimum: Amount) -> Busy | Exhausted | Amount:
        """See `Ground.judge`: the script has decided."""
        match reply.code:
            case Code.BUSY:
                return Busy(retry_after=RETRY_SECONDS)
            case Code.EXHAUSTED:
                index = int(reply.rest[0]) - 1
                return Exhausted(window=WINDOWS[index].value, resets_in=self.ends_in(index))
            case _:
                await self.mend(reply)
                return bound

    def covered(self, amount: Amount) -> tuple[Amount, ...]:
        """See `Ground.covered`."""
        return (amount,) * len(WINDOWS)

    async def mend(self, reply: Reply) -> None:
        """See `Ground.mend`: another process has opened windows, or Redis' clock is not where it was believed to be."""
        if reply.code is not Code.STALE:
            raise LedgerUnavailable(f"the budget's Redis gives an answer that makes no sense here: {reply.code}")
        self._learn(reply)

    def ends_in(self, index: int) -> float:
        """Return the seconds until the end of the window with this index in WINDOWS."""
        end = milliseconds(self.offers().all[index].window.end)
        return max(0.0, (end - self._epoch_ms) / 1000 - self._monotonic())

    def _offer(self, index: int, moment: datetime) -> Offer:
        known = self._known[index]
        if known is None or moment >= known.end:
            try:
                found = self._calendar(self._terms, WINDOWS[index], known, moment)
            except UnknownTimeZone as error:
                raise LedgerUnavailable(f"the budget's time zone cannot be used: {error}") from None
            known = Window(found.name, found.start, found.end)
        limit = self._terms.limit(known.name)
        return Offer(window=known, limit=limit, told=limit)

    def _learn(self, reply: Reply) -> None:
        self._epoch_ms = reply.now - 1000 * self._monotonic()
        self._known = tuple(parsed_window(name.value, told) for name, told in zip(WINDOWS, reply.rest, strict=False))
        self._offers = None


def milliseconds(moment: datetime) -> int:
    """Return whole ms since 1970."""
    return (moment - _1970) // _MS


def parsed_window(name: str, told: bytes) -> Window | None:
    """Return the window that Redis tells as "start end"; None for nothing."""
    if not told:
        return None
    start, end = (_1970 + _MS * int(part) for part in told.split())
    return Window(name, start, end)


def models_of(told: Sequence[bytes]) -> dict[tuple[str, datetime], tuple[ModelSpend, ...]]:
    """Return the spend that Redis tells by pairs of windows, added up by window."""
    found: dict[tuple[str, datetime], dict[tuple[str, str], Amount]] = {}
    for field, count in zip(told[::2], told[1::2], strict=True):
        *starts, unit, label = field.decode().split("/", 3)
        name, price = orjson.loads(label)
        amount = Amount(int(count)) if unit == "t" else Amount(0, int(count))
        for window, start in zip(WINDOWS, starts, strict=True):
            models = found.setdefault((window.value, _1970 + _MS * int(start)), {})
            models[name, price] = models.get((name, price), ZERO) + amount
    return {
        window: tuple(
            ModelSpend(name=name, price=price, tokens=amount.tokens, nano_usd=amount.nano_usd)
            for (name, price), amount in models.items()
        )
        for window, models in found.items()
    }
