"""Decides what a process does with its part of a window: what it may grant by itself, what it takes, returns and reports.

Pure but for `Slice`, which is counted up and down for each request in plain integers: a request that fits the slice in hand
costs no copy and no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agentservice_api.budget import (
    UNLIMITED,
    WINDOWS,
    ZERO,
    Amount,
    LedgerSpec,
    LedgerStatus,
    ModelSpend,
    Verdict,
    WindowKey,
    WindowState,
    decide,
)
from agentservice_api.budget.books import Posting, post, room
from agentservice_api.budget.ledger import Holder
from agentservice_runtime.ledger.interface import Spend

SLICE_PART: Final = 100
"""A slice is this part of the limit: 1 %."""
UNLIMITED_BOUNDS: Final = 100
"""So many requests' bounds are taken at once where nothing is limited: spend is counted there, too, but seldom written."""


@dataclass(slots=True, eq=False)
class Slice:
    """What this process has of one window, as it changes from request to request."""

    key: WindowKey
    free_tokens: int = 0
    """Held and not reserved. Below zero where more was billed, or granted without asking, than was held."""
    free_nano: int = 0
    reserved_tokens: int = 0
    reserved_nano: int = 0
    spent: dict[tuple[str, str], list[int]] = field(default_factory=dict[tuple[str, str], list[int]])
    """Tokens and nano-USD that were billed since the last write, by model and price."""
    seq: int = 0
    """Of the last write that has landed; 0: nothing is listed of this process."""
    sent: Amount = ZERO
    """Billed, and in a write whose fate is not known yet."""
    heir: Slice | None = None
    """Takes what is settled here once this slice is void: what was reserved of it counts as spent already."""
    elder: Slice | None = None
    """Whose heir this is."""

    @property
    def free(self) -> Amount:
        """Held and not reserved."""
        return Amount(self.free_tokens, self.free_nano)

    @property
    def reserved(self) -> Amount:
        """In flight."""
        return Amount(self.reserved_tokens, self.reserved_nano)

    @property
    def is_awaited(self) -> bool:
        """Whether requests run that will be settled here."""
        return bool(self.reserved) or (self.elder is not None and self.elder.is_awaited)

    @property
    def unposted(self) -> Amount:
        """Billed, and not known to be in the ledger."""
        tokens, nano = self.sent.tokens, self.sent.nano_usd
        for billed in self.spent.values():
            tokens += billed[0]
            nano += billed[1]
        return Amount(tokens, nano)

    def reserve(self, amount: Amount) -> None:
        """Set aside for a request."""
        self.free_tokens -= amount.tokens
        self.free_nano -= amount.nano_usd
        self.reserved_tokens += amount.tokens
        self.reserved_nano += amount.nano_usd

    def settle(self, reserved: Amount, spend: Spend) -> None:
        """Replace what was reserved by what was billed."""
        self.reserved_tokens -= reserved.tokens
        self.reserved_nano -= reserved.nano_usd
        if self.heir is not None:
            self.heir.settle(ZERO, spend)
            return
        tokens, nano = spend.tokens, spend.nano_usd
        self.free_tokens += reserved.tokens - tokens
        self.free_nano += reserved.nano_usd - nano
        self._bill(spend.name, spend.price, tokens, nano)

    def send(self, *, give: bool) -> Part:
        """Return what to write of it, set aside until `agree`: what was billed, and what is idle if that is to ``give``."""
        idle = self.free.non_negative() if give else ZERO
        short = (ZERO - self.free).non_negative()
        spent = tuple(
            ModelSpend(name=name, price=price, tokens=tokens, nano_usd=nano)
            for (name, price), (tokens, nano) in self.spent.items()
        )
        self.sent, self.spent = self.unposted, {}
        self.free_tokens -= idle.tokens
        self.free_nano -= idle.nano_usd
        return Part(key=self.key, spent=spent, idle=idle, short=short, in_flight=bool(self.reserved), seq=self.seq + 1)

    def take_back(self, part: Part) -> None:
        """Have what was billed written another time."""
        for spend in part.spent:
            self._bill(spend.name, spend.price, spend.tokens, spend.nano_usd)

    def agree(self, hand: Holder | None) -> None:
        """Take over what the ledger lists, while nothing is on its way; what was billed since is still to be posted."""
        self.sent = ZERO
        held = ZERO if hand is None else hand.held
        free = held - self.unposted - self.reserved
        self.free_tokens, self.free_nano = free.tokens, free.nano_usd
        self.seq = 0 if hand is None else hand.seq

    def _bill(self, name: str, price: str, tokens: int, nano: int) -> None:
        known = self.spent.get((name, price))
        if known is None:
            self.spent[name, price] = [tokens, nano]
        else:
            known[0] += tokens
            known[1] += nano


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A request that waits for its reservation."""

    bound: Amount
    minimum: Amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What a write says of one window. What it takes is decided on the state that it lands on."""

    key: WindowKey
    spent: tuple[ModelSpend, ...]
    idle: Amount
    """Not used by anybody while the write is on its way, so that it may be returned."""
    short: Amount
    """Owed: granted, or billed, and not held."""
    in_flight: bool
    """Whether requests run that will leave more idle: what waits here waits for them."""
    seq: int
    """Which the holder's entry bears when this has landed."""


def _new(key: WindowKey) -> Part:
    return Part(key=key, spent=(), idle=ZERO, short=ZERO, in_flight=False, seq=1)


class Outdated(Exception):  # noqa: N818
    """The accounts do not go on from where a write was made: they were restored, or this holder's entry is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One write of this process."""

    parts: tuple[Part, ...]
    asks: tuple[Ask, ...] = ()
    eager: int = 1
    """How many slices to take at once: more where they last for less than a second."""
    due: bool = False
    """Report and return now, even if nobody waits for it."""
    in_doubt: bool = False
    """Whether it may have landed already."""

    def part(self, key: WindowKey) -> Part:
        """Return the part of a window; an empty one for a window that was just opened."""
        return next((part for part in self.parts if part.key == key), _new(key))


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One window as the ledger lists it, seen by one holder."""

    window: WindowState
    limit: Amount
    """UNLIMITED under Soft and Observe: what nobody refuses needs no slice."""
    pool: Amount
    """Nobody's. Below zero where the limit fell, or more was billed than was held."""
    left: Amount
    """Of the limit, if all that is held came back."""
    others: Amount
    """What other holders have in hand."""
    hand: Holder | None
    """What this holder has."""

    @property
    def is_frozen(self) -> bool:
        """Whether more has been handed out than the limit: what is in hand may be somebody else's."""
        return self.pool.tokens < 0 or self.pool.nano_usd < 0


def account(status: LedgerStatus, spec: LedgerSpec, holder: str, window: WindowState) -> Account:
    """Return what ``status`` says of ``window``."""
    limit = room(spec, window.name)
    hand = status.holder(holder, window.key)
    held = window.authorized - window.settled - window.presumed
    return Account(
        window=window,
        limit=limit,
        pool=limit - window.authorized - window.overrun,
        left=limit - window.spent,
        others=held - (hand.held if hand is not None else ZERO),
        hand=hand,
    )


def judge(accounts: Iterable[tuple[Account, Slice]], ask: Ask) -> tuple[Verdict, Amount, str]:
    """Return what becomes of ``ask``, with GRANT how much, and which window decided.

    Counts as free what is free in hand and what the ledger's pool has, so with GRANT some may have to be taken first.
    """
    verdict, amount, decisive = Verdict.GRANT, ask.bound, ""
    for one, hand in accounts:
        left = one.left - hand.unposted
        free = hand.free + one.pool
        found, part = decide(limit=left, spent=ZERO, reserved=left - free, bound=ask.bound, minimum=ask.minimum)
        if found is Verdict.EXHAUSTED:
            return found, ZERO, one.window.name
        if found is Verdict.BUSY:
            verdict, decisive = found, one.window.name
        else:
            amount = amount.at_most(part)
    return verdict, amount if verdict is Verdict.GRANT else ZERO, decisive


def landed(status: LedgerStatus, holder: str, batch: Batch) -> bool:
    """Tell whether the accounts show that ``batch`` was carried out: any of its parts that had something to say shows it."""
    hands = [(part, status.holder(holder, part.key)) for part in batch.parts]
    if any(hand is not None and hand.seq >= part.seq for part, hand in hands):
        return True
    told = [(part, hand) for part, hand in hands if part.spent or part.idle]
    # presumed spent meanwhile, or its window closed, with what this would have said of it
    return batch.in_doubt and all(hand is None for _, hand in told) and any(part.seq > 1 for part, _ in told)


def carry_out(status: LedgerStatus, spec: LedgerSpec, holder: str, batch: Batch) -> LedgerStatus:
    """Return the accounts after ``batch``; as they are when it has landed already or has nothing to say.

    Raises Outdated.
    """
    if landed(status, holder, batch):
        return status
    for part in batch.parts:
        hand = status.holder(holder, part.key)
        if status.window(part.key) is not None and part.seq - 1 != (hand.seq if hand is not None else 0):
            raise Outdated
    takes = _takes(status, spec, holder, batch) if batch.asks else {}
    postings: list[Posting] = []
    speaks = batch.due
    for key in dict.fromkeys([*(part.key for part in batch.parts), *takes]):
        part, take = batch.part(key), takes.get(key, Take())
        kept = part.idle.at_most(take.want)
        window = status.window(key)
        if batch.asks and part.in_flight and not take.want and window is not None:
            # what runs here comes back to those who wait here; but more than the limit is nobody's
            kept = ZERO if account(status, spec, holder, window).is_frozen else part.idle
        posting = Posting(
            key=key,
            spent=part.spent,
            returned=part.idle - kept,  # what passes through the pool would count as wanted no more
            need=(take.need - kept).non_negative(),
            want=(take.want - kept).non_negative(),
        )
        asks = bool(posting.need or posting.want or take.opens)
        tells = bool(posting.returned or (posting.spent and not part.in_flight))
        if asks or tells or posting.spent:
            postings.append(posting)
        speaks = speaks or asks or (tells and _is_wanted(status, spec, holder, key))
    return post(status, spec, holder, postings)[0] if speaks and postings else status


def _is_wanted(status: LedgerStatus, spec: LedgerSpec, holder: str, key: WindowKey) -> bool:
    """Tell whether others may want what is idle here."""
    window = status.window(key)
    if window is None:
        return False
    one = account(status, spec, holder, window)
    return bool(window.wanted or one.others) or one.is_frozen


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """What to ask of one window, with what is idle in hand counted as given back."""

    need: Amount = ZERO
    """At least. More than there is, it leaves word that it is wanted."""
    want: Amount = ZERO
    """At most; ZERO where there is too little."""
    opens: bool = False
    """Whether the window is to be written even if nothing is taken of it."""


def _takes(status: LedgerStatus, spec: LedgerSpec, holder: str, batch: Batch) -> dict[WindowKey, Take]:
    """Return what to ask of the current windows for the first of those who wait that it can serve."""
    reports = [Posting(key=part.key, spent=part.spent, returned=part.idle) for part in batch.parts]
    status = post(status, spec, holder, [one for one in reports if one.spent or one.returned])[0]
    current = [window for name in WINDOWS if (window := status.current(name)) is not None]
    accounts = [account(status, spec, holder, window) for window in current]
    if not spec.is_hard:
        # nothing to take; but the windows must be there to settle into
        return {one.window.key: Take(opens=True) for one in accounts if one.hand is None}
    shorts = [batch.part(one.window.key).short for one in accounts]
    bare = [
        (one, Slice(key=one.window.key, free_tokens=-short.tokens, free_nano=-short.nano_usd))
        for one, short in zip(accounts, shorts, strict=True)
    ]
    takes: dict[WindowKey, Take] = {}
    for ask in batch.asks:
        verdict, amount, _ = judge(bare, ask)
        if verdict is Verdict.GRANT:
            size = _size(accounts, amount, batch)
            for one, short in zip(accounts, shorts, strict=True):
                need = amount + short
                want = (size + short).at_most(_share(one, status)).at_least(need)
                takes[one.window.key] = Take(need=need, want=want)
            break
        if verdict is Verdict.BUSY and not takes:
            for one, hand in bare:
                short = lacking(one, hand, ask)
                if short:
                    takes[one.window.key] = Take(need=_beyond(one.pool, short))
    if not takes:
        # nothing fits; but who is refused must be told of which window, so that has to be listed
        return {one.window.key: Take(opens=True) for one in accounts if not (one.window.authorized or one.hand)}
    return takes


def _beyond(pool: Amount, short: Amount) -> Amount:
    """Return what leaves word that `short` is wanted beyond the pool; nothing of a unit that is not short, which may have no limit."""
    return Amount(
        max(0, short.tokens + pool.tokens) if short.tokens else 0,
        max(0, short.nano_usd + pool.nano_usd) if short.nano_usd else 0,
    )


def lacking(one: Account, hand: Slice, ask: Ask) -> Amount:
    """Return what others have to give back before ``ask`` fits, if none of them has said so already."""
    need = ask.bound if ask.bound.fits(one.left - hand.unposted) else ask.minimum
    short = (need - hand.free - one.pool).non_negative()
    return ZERO if not one.others or short.fits(one.window.wanted) else short


def is_worth_telling(accounts: Sequence[tuple[Account, Slice]], ask: Ask) -> bool:
    """Tell whether a write can bring ``ask`` nearer, which is BUSY: others have to know or get something."""
    return any(
        one.others and (((hand.free.non_negative() or hand.spent) and not hand.reserved) or lacking(one, hand, ask))
        for one, hand in accounts
    )


def _size(accounts: Iterable[Account], amount: Amount, batch: Batch) -> Amount:
    """Return how much to have: as many requests' worth as the waiting ones need, or as a slice of the limit pays for."""
    waiting = sum((ask.bound for ask in batch.asks), ZERO)
    bounds = float(UNLIMITED_BOUNDS)
    for one in accounts:
        for limit, unit, needed in (
            (one.limit.tokens, UNLIMITED.tokens, amount.tokens),
            (one.limit.nano_usd, UNLIMITED.nano_usd, amount.nano_usd),
        ):
            if limit != unit and needed:
                bounds = min(bounds, batch.eager * limit / SLICE_PART / needed)
    return Amount(int(amount.tokens * bounds), int(amount.nano_usd * bounds)).at_least(waiting)


def _share(one: Account, status: LedgerStatus) -> Amount:
    """Return an even part of the pool: near the limit nobody takes what all need."""
    holders = sum(1 for hand in status.holders if hand.key == one.window.key and hand.held)
    holders += one.hand is None or not one.hand.held
    return Amount(one.pool.tokens // holders, one.pool.nano_usd // holders)
