"""Decides what a Redis writes to its AgentLedger: what was billed and lost, what goes back, which chunk is taken. Pure.

What Redis says is cumulative, and the AgentLedger lists what it knows of it, so a write says the difference and may be repeated.
A chunk is what may be spent by all who ever drew from it: what is reported as billed or lost, and what is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from agentservice_api.budget import UNLIMITED, WINDOWS, ZERO, Amount, LedgerSpec, LedgerStatus, ModelSpend, Verdict
from agentservice_api.budget.books import Posting, post
from agentservice_api.budget.ledger import OTHER_MODELS, Holder, WindowKey, instant
from agentservice_runtime.ledger.redis_ground import milliseconds
from agentservice_runtime.ledger.redis_steps import account as figures
from agentservice_runtime.ledger.slices import Account, Ask, Slice, account, judge, lacking

CHUNK_PART: Final = 50
"""A chunk is this part of a limit: 2 %."""


class Ended(Exception):  # noqa: N818  nothing failed: another life begins
    """The accounts do not go on from what Redis knows: they were restored, or its entry was struck off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """What Redis knows of one window."""

    name: str
    start: int
    """In ms."""
    settled: Amount
    presumed: Amount
    reserved: Amount
    seq: int
    """Of its entry in the AgentLedger, as it was told last; 0: nothing is listed of it."""
    whole: Amount
    """What may be spent of it, as of then; less what is set aside to go back."""

    @staticmethod
    def parse(name: str, start: int, told: bytes | str, chunk: bytes | str) -> Chunk:
        """Read an account and a chunk as the scripts tell them; nothing of either is 0."""
        parts = figures(told) if told else (0,) * 6
        seq, *whole = figures(chunk) if chunk else (0, 0, 0)
        return Chunk(
            name=name,
            start=start,
            settled=Amount(*parts[0:2]),
            presumed=Amount(*parts[2:4]),
            reserved=Amount(*parts[4:6]),
            seq=seq,
            whole=Amount(*whole),
        )

    @property
    def spent(self) -> Amount:
        """What was billed and what was lost."""
        return self.settled + self.presumed

    def key(self, status: LedgerStatus) -> WindowKey | None:
        """Return the window's key in ``status``; None when it is in the books already."""
        for window in status.windows:
            if window.name == self.name and milliseconds(instant(window.start)) == self.start:
                return window.key
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a report says of one window."""

    chunk: Chunk
    returned: Amount
    """Set aside to go back, if the AgentLedger lists what Redis knows."""
    models: tuple[ModelSpend, ...]
    """What models cost since the last report, as far as that is known."""


def parse(told: bytes) -> tuple[Part, ...]:
    """Read what `report` answers."""
    return tuple(map(_part, orjson.loads(told)))


def whole(hand: Holder | None) -> Amount:
    """Return what may be spent, as the AgentLedger lists it."""
    return ZERO if hand is None else hand.spent + hand.presumed + hand.held


def accounts(
    status: LedgerStatus, spec: LedgerSpec, holder: str, chunks: Sequence[Chunk]
) -> list[tuple[Account, Slice]] | None:
    """Return the current windows as the AgentLedger and Redis together have them; None if Redis has told of others."""
    found: list[tuple[Account, Slice]] = []
    for name in WINDOWS:
        window = status.current(name)
        chunk = next((chunk for chunk in chunks if window is not None and chunk.key(status) == window.key), None)
        if window is None or chunk is None:
            return None
        one = account(status, spec, holder, window)
        posted = ZERO if one.hand is None else one.hand.spent + one.hand.presumed
        free = whole(one.hand) - chunk.spent - chunk.reserved
        hand = Slice(key=window.key, free_tokens=free.tokens, free_nano=free.nano_usd, sent=chunk.spent - posted)
        found.append((one, hand))
    return found


def lacks(pairs: Sequence[tuple[Account, Slice]], amount: Amount) -> list[Amount]:
    """Return what has to be taken of each window before ``amount`` fits in hand; nothing of a unit without a limit."""
    return [_limited((amount - hand.free).non_negative(), one.limit) for one, hand in pairs]


def carry_out(
    status: LedgerStatus,
    spec: LedgerSpec,
    holder: str,
    report: Sequence[Part],
    *,
    asks: Sequence[Ask] = (),
    eager: int = 1,
) -> LedgerStatus:
    """Return the accounts after ``report``, and with a chunk for the first of ``asks`` that can be served, ``eager`` times as large.

    As they are when there is nothing to say. Raises Ended.
    """
    postings = [posting for part in report if (posting := _posting(status, holder, part)) is not None]
    after = post(status, spec, holder, postings)[0] if postings else status
    takes = _takes(after, spec, holder, [part.chunk for part in report], asks, eager) if asks and spec.is_hard else []
    return post(after, spec, holder, takes)[0] if takes else after


def _posting(status: LedgerStatus, holder: str, part: Part) -> Posting | None:
    chunk = part.chunk
    key = chunk.key(status)
    if key is None:
        return None
    hand = status.holder(holder, key)
    listed = hand if hand is not None else Holder(holder=holder, window=chunk.name, start=key[1])  # type: ignore[arg-type]  # a name that Redis tells is one of a window
    if not listed.spent.fits(chunk.settled) and listed.seq > chunk.seq:
        return None  # another pod, which did not wait for this one any more, has said more since
    if listed.seq < chunk.seq or not listed.spent.fits(chunk.settled):
        raise Ended
    owed = chunk.settled - listed.spent
    # what is lost beyond what is held nobody can hold back
    lost = (chunk.presumed - listed.presumed).at_most((listed.held - owed).non_negative())
    returned, strays = ZERO, False
    if listed.seq == chunk.seq:
        returned = part.returned
        # set aside by somebody who did not come to give it back: a write makes it known again
        strays = listed.seq > 0 and chunk.whole + returned != whole(hand)
    if not (owed or lost or returned or strays):
        return None
    return Posting(key=key, spent=_models(part.models, owed), lost=lost, returned=returned)


def _models(models: Sequence[ModelSpend], owed: Amount) -> tuple[ModelSpend, ...]:
    """Return spend that adds up to ``owed``: somebody's report may have landed of which Redis does not know."""
    found: list[ModelSpend] = []
    for spend in models:
        part = spend.amount.at_most(owed)
        if part:
            found.append(ModelSpend(name=spend.name, price=spend.price, tokens=part.tokens, nano_usd=part.nano_usd))
            owed -= part
    if owed:
        found.append(ModelSpend(name=OTHER_MODELS, price="", tokens=owed.tokens, nano_usd=owed.nano_usd))
    return tuple(found)


def _takes(
    status: LedgerStatus, spec: LedgerSpec, holder: str, chunks: Sequence[Chunk], asks: Sequence[Ask], eager: int
) -> list[Posting]:
    pairs = accounts(status, spec, holder, chunks)
    if pairs is None:
        return []
    words: list[Posting] = []
    for ask in asks:
        verdict, amount, _ = judge(pairs, ask)
        if verdict is Verdict.GRANT:
            needs = lacks(pairs, amount)
            if not any(needs):
                return []
            waiting = sum((other.bound for other in asks), ZERO)
            return [
                Posting(key=one.window.key, need=need, want=want)
                for (one, hand), need in zip(pairs, needs, strict=True)
                if (want := _limited(_size(one, waiting, eager) - hand.free, one.limit).at_least(need))
            ]
        if verdict is Verdict.BUSY and not words:
            # leaves word that it is wanted
            words = [
                Posting(key=one.window.key, need=_limited((lack + one.pool).non_negative(), one.limit))
                for one, hand in pairs
                if (lack := lacking(one, hand, ask))
            ]
    return words


def _size(one: Account, waiting: Amount, eager: int) -> Amount:
    return waiting.at_least(Amount(eager * one.limit.tokens // CHUNK_PART, eager * one.limit.nano_usd // CHUNK_PART))


def _limited(amount: Amount, limit: Amount) -> Amount:
    return Amount(
        0 if limit.tokens == UNLIMITED.tokens else max(0, amount.tokens),
        0 if limit.nano_usd == UNLIMITED.nano_usd else max(0, amount.nano_usd),
    )


def _part(told: dict[str, Any]) -> Part:
    models: list[ModelSpend] = []
    for label, tokens, nano in told["models"] or ():
        name, price = orjson.loads(label)
        models.append(ModelSpend(name=name, price=price, tokens=int(tokens), nano_usd=int(nano)))
    chunk = Chunk.parse(WINDOWS[int(told["index"]) - 1].value, int(told["start"]), told["account"], told["chunk"])
    return Part(chunk=chunk, returned=Amount(*figures(told["returned"])), models=tuple(models))
