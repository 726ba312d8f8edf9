"""Decides every change of an AgentLedger's accounts. Pure: old status in, new status out; writing is somebody else's.

The identity that each function keeps, and that the API server checks too: in every window

    authorized = settled + presumed + the sum of what is held,   authorized <= limit under Hard (unless the limit fell)

so a token is in the pool, in one holder's hand, or accounted for. What a provider bills beyond a holder's hand is taken
from the pool first; only what the pool does not have is overrun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agentservice_api.budget.amount import UNLIMITED, ZERO, Amount
from agentservice_api.budget.ledger import (
    MAX_CLOSED,
    MAX_HOLDERS,
    MAX_MODELS,
    MAX_WINDOWS,
    OTHER_MODELS,
    ClosedWindow,
    Holder,
    LedgerSpec,
    LedgerStatus,
    ModelSpend,
    WindowKey,
    WindowState,
    instant,
    instant_text,
)
from agentservice_api.budget.windows import WINDOWS, Window, WindowName, successor, window_at, zone

LATE_SETTLEMENTS: Final = timedelta(hours=1)
"""How long a window that has ended waits for what was still running; then what is held of it counts as spent."""
SETTLED: Final = timedelta(seconds=10)
"""So long it waits, where a limit refuses, once nobody holds anything of it: all that runs was held first."""
KEPT_DAYS: Final = timedelta(days=62)
KEPT_MONTHS: Final = timedelta(days=397)

Calendar = Callable[[LedgerSpec, WindowName, Window | None, datetime], Window]
"""Which window holds a moment, given the one before it (None at the first). Tests have shorter days."""


class BooksFull(RuntimeError):  # noqa: N818
    """There is no room for another holder: more processes than an AgentLedger can list."""


def calendar(spec: LedgerSpec, name: WindowName, previous: Window | None, moment: datetime) -> Window:
    """Return the calendar window of the budget's time zone. Raises UnknownTimeZone."""
    time_zone = zone(spec.time_zone)
    if previous is None:
        return window_at(name, moment, time_zone=time_zone)
    return successor(previous, moment, time_zone=time_zone)


@dataclass(frozen=True, kw_only=True)
class Posting:
    """What a holder reports and asks of one window, in one write."""

    key: WindowKey
    spent: tuple[ModelSpend, ...] = ()
    """Billed since its last write, over its hand too."""
    lost: Amount = ZERO
    """Change of what is presumed because its own reservations died; negative where a late settlement found some."""
    returned: Amount = ZERO
    """Goes back to the pool."""
    need: Amount = ZERO
    """Take at least this, or nothing and leave word that it is wanted."""
    want: Amount = ZERO
    """Take this much if the pool has it."""


def roll(status: LedgerStatus, spec: LedgerSpec, *, now: datetime, calendar: Calendar = calendar) -> LedgerStatus:
    """Open the windows that hold ``now``. Starts only move forward: a clock that lags opens nothing."""
    opened: list[WindowState] = []
    for name in WINDOWS:
        latest = status.current(name)
        if latest is not None and now < instant(latest.end):
            continue
        window = calendar(spec, name, latest.window if latest is not None else None, now)
        opened.append(WindowState(name=name.value, start=instant_text(window.start), end=instant_text(window.end)))
    return status.model_copy(update={"windows": (*opened, *status.windows)}) if opened else status


def post(
    status: LedgerStatus, spec: LedgerSpec, holder: str, postings: Sequence[Posting]
) -> tuple[LedgerStatus, dict[WindowKey, Amount]]:
    """Carry out ``postings`` of ``holder`` and return the new status, and what was granted of each window asked.

    A window that is closed already is passed over: what was held of it counts as spent. Raises BooksFull.
    """
    granted: dict[WindowKey, Amount] = {}
    for posting in postings:
        window = status.window(posting.key)
        if window is None:
            continue
        hand = status.holder(holder, posting.key)
        if hand is None:
            hand = Holder(holder=holder, window=window.name, start=window.start)
            if len(status.holders) >= MAX_HOLDERS:
                raise BooksFull(f"the ledger lists {MAX_HOLDERS} holders already")
        window, hand, given = _posted(window, hand, posting, limit=room(spec, window.name))
        granted[posting.key] = given
        status = status.model_copy(
            update={"windows": _replaced(status.windows, window), "holders": _with_holder(status.holders, hand)}
        )
    return status, granted


def room(spec: LedgerSpec, name: str) -> Amount:
    """Return up to where the pool gives: the limit, or everything where a limit does not refuse."""
    return spec.limit(name) if spec.is_hard else UNLIMITED


def presume_gone(status: LedgerStatus, gone: Callable[[str], bool]) -> LedgerStatus:
    """Count as spent what the holders hold of which ``gone`` is true, and strike them off."""
    windows = {window.key: window for window in status.windows}
    kept: list[Holder] = []
    for hand in status.holders:
        if not gone(hand.holder):
            kept.append(hand)
            continue
        window = windows.get(hand.key)
        if window is not None:
            windows[hand.key] = _presumed(window, hand.held)
    if len(kept) == len(status.holders):
        return status
    return status.model_copy(update={"windows": tuple(windows.values()), "holders": tuple(kept)})


def close(status: LedgerStatus, *, now: datetime, hard: bool = False) -> LedgerStatus:
    """Move windows that nobody settles into any more to the books, and drop books that are too old.

    ``hard`` says that whatever runs was held before it began, so a window that nobody holds of has nothing to wait for.
    """
    ended = [window for window in status.windows if _is_over(status, window, now, hard=hard)]
    keys = {window.key for window in ended}
    held = dict.fromkeys(keys, ZERO)
    for hand in status.holders:
        if hand.key in keys:
            held[hand.key] += hand.held
    books = [*status.closed, *(_closed(_presumed(window, held[window.key])) for window in ended)]
    # the oldest go first, also where a window closes late
    books.sort(key=lambda book: instant(book.end))
    kept = [book for book in books if instant(book.end) + _kept(book) > now][-MAX_CLOSED:]
    if not ended and len(kept) == len(status.closed):
        return status
    return status.model_copy(
        update={
            "windows": tuple(window for window in status.windows if window.key not in keys),
            "holders": tuple(hand for hand in status.holders if hand.key not in keys),
            "closed": tuple(kept),
        }
    )


def closes_at(status: LedgerStatus) -> datetime | None:
    """Return the moment from which `close` moves another window to the books; None while it has none to move."""
    return min(
        (_over_at(status, window) for window in status.windows if window is not status.current(window.name)),
        default=None,
    )


def presume_all(status: LedgerStatus, spec: LedgerSpec) -> LedgerStatus:
    """Count all that is left of each current window as spent: for accounts that were lost and could not be restored."""
    windows = list(status.windows)
    for index, window in enumerate(windows):
        if window is not status.current(window.name):
            continue
        limit = spec.limit(window.name)
        left = Amount(
            0 if limit.tokens == UNLIMITED.tokens else limit.tokens - window.authorized_tokens - window.overrun_tokens,
            0
            if limit.nano_usd == UNLIMITED.nano_usd
            else limit.nano_usd - window.authorized_nano_usd - window.overrun_nano_usd,
        ).non_negative()
        windows[index] = _presumed(_authorized(window, window.authorized + left), left)
    return status.model_copy(update={"windows": tuple(windows)})


def forgive_presumed(status: LedgerStatus, key: WindowKey) -> LedgerStatus:
    """Return to the pool what is presumed spent of a window: an explicit decision of a person, which is audited."""
    window = status.window(key)
    if window is None or not window.presumed:
        return status
    freed = _authorized(window, window.authorized - window.presumed)
    freed = freed.model_copy(update={"presumed_tokens": 0, "presumed_nano_usd": 0})
    hands = tuple(
        hand.model_copy(update={"forgiven_tokens": hand.presumed_tokens, "forgiven_nano_usd": hand.presumed_nano_usd})
        if hand.key == key
        else hand
        for hand in status.holders
    )
    return status.model_copy(update={"windows": _replaced(status.windows, freed), "holders": hands})


def _posted(
    window: WindowState, hand: Holder, posting: Posting, *, limit: Amount
) -> tuple[WindowState, Holder, Amount]:
    held, granted = hand.held, hand.granted
    # what was lost and is found again pays for what was billed; what was forgiven is in the pool already
    back = (ZERO - posting.lost).non_negative().at_most(hand.presumed)
    found = back.at_most(hand.presumed - hand.forgiven).at_most(window.presumed)
    held += found
    billed = _sum(posting.spent)
    # beyond the hand: from the pool as far as it has it, the rest is overrun
    pool = (limit - window.authorized - window.overrun).non_negative()
    beyond = (billed - held).non_negative()
    drawn = beyond.at_most(pool)
    held = (held - billed).non_negative()
    window = _authorized(window, window.authorized + drawn)
    window = _settled(window, billed - beyond + drawn, overrun=beyond - drawn, models=posting.spent)

    lost = posting.lost.non_negative().at_most(held)
    held -= lost
    window = _presumed(window, lost - found)

    returned = posting.returned.at_most(held)
    held -= returned
    wanted = (window.wanted - returned).non_negative()
    window = _authorized(window, window.authorized - returned)

    given = ZERO
    if posting.need or posting.want:
        free = (limit - window.authorized - window.overrun).non_negative()
        if posting.need.fits(free):
            given = posting.want.at_least(posting.need).at_most(free)
            window = _authorized(window, window.authorized + given)
            wanted = (wanted - given).non_negative()
        else:
            wanted = wanted.at_least((posting.need - free).non_negative())
    window = window.model_copy(update={"wanted_tokens": wanted.tokens, "wanted_nano_usd": wanted.nano_usd})
    held, granted = held + given, granted + given + drawn
    lost -= back
    forgiven = (hand.forgiven - (back - found)).non_negative()
    hand = hand.model_copy(
        update={
            "tokens": held.tokens,
            "nano_usd": held.nano_usd,
            "granted_tokens": granted.tokens,
            "granted_nano_usd": granted.nano_usd,
            "spent_tokens": hand.spent_tokens + billed.tokens,
            "spent_nano_usd": hand.spent_nano_usd + billed.nano_usd,
            "presumed_tokens": hand.presumed_tokens + lost.tokens,
            "presumed_nano_usd": hand.presumed_nano_usd + lost.nano_usd,
            "forgiven_tokens": forgiven.tokens,
            "forgiven_nano_usd": forgiven.nano_usd,
            "seq": hand.seq + 1,
        }
    )
    return window, hand, given


def _authorized(window: WindowState, amount: Amount) -> WindowState:
    return window.model_copy(update={"authorized_tokens": amount.tokens, "authorized_nano_usd": amount.nano_usd})


def _presumed(window: WindowState, amount: Amount) -> WindowState:
    presumed = window.presumed + amount
    return window.model_copy(update={"presumed_tokens": presumed.tokens, "presumed_nano_usd": presumed.nano_usd})


def _settled(window: WindowState, amount: Amount, *, overrun: Amount, models: Iterable[ModelSpend]) -> WindowState:
    settled, beyond = window.settled + amount, window.overrun + overrun
    return window.model_copy(
        update={
            "settled_tokens": settled.tokens,
            "settled_nano_usd": settled.nano_usd,
            "overrun_tokens": beyond.tokens,
            "overrun_nano_usd": beyond.nano_usd,
            "models": add_models(window.models, models),
        }
    )


def add_models(known: Sequence[ModelSpend], more: Iterable[ModelSpend]) -> tuple[ModelSpend, ...]:
    """Add up spend by model and price; beyond MAX_MODELS entries the rest is one, under OTHER_MODELS."""
    found = {(spend.name, spend.price): spend.amount for spend in known}
    for spend in more:
        key = (spend.name, spend.price)
        if key not in found and len(found) >= MAX_MODELS - 1:
            key = (OTHER_MODELS, "")
        found[key] = found.get(key, ZERO) + spend.amount
    return tuple(
        ModelSpend(name=name, price=price, tokens=amount.tokens, nano_usd=amount.nano_usd)
        for (name, price), amount in found.items()
    )


def _is_over(status: LedgerStatus, window: WindowState, now: datetime, *, hard: bool) -> bool:
    return window is not status.current(window.name) and now >= _over_at(status, window, hard=hard)


def _over_at(status: LedgerStatus, window: WindowState, *, hard: bool = False) -> datetime:
    """When nobody settles into a window any more. A current one is not asked: it ends when another one begins."""
    newer = sum(instant(other.end) > instant(window.end) for other in status.windows)
    if newer >= MAX_WINDOWS - len(WINDOWS) - 1:
        return instant(window.end)  # the next ones need its place
    if any(hand.key == window.key and hand.held for hand in status.holders):
        return instant(window.end) + LATE_SETTLEMENTS
    return instant(window.end) + (SETTLED if hard else LATE_SETTLEMENTS * 0.1)


def _closed(window: WindowState) -> ClosedWindow:
    billed, presumed = window.settled + window.overrun, window.presumed
    return ClosedWindow(
        name=window.name,
        start=window.start,
        end=window.end,
        tokens=billed.tokens,
        nano_usd=billed.nano_usd,
        presumed_tokens=presumed.tokens,
        presumed_nano_usd=presumed.nano_usd,
        models=window.models,
    )


def _kept(book: ClosedWindow) -> timedelta:
    return KEPT_DAYS if book.name == WindowName.DAILY.value else KEPT_MONTHS


def _sum(spent: Iterable[ModelSpend]) -> Amount:
    return sum((spend.amount for spend in spent), ZERO)


def _replaced(windows: tuple[WindowState, ...], changed: WindowState) -> tuple[WindowState, ...]:
    return tuple(changed if window.key == changed.key else window for window in windows)


def _with_holder(holders: tuple[Holder, ...], changed: Holder) -> tuple[Holder, ...]:
    same = [hand for hand in holders if not (hand.holder == changed.holder and hand.key == changed.key)]
    return (*same, changed)
