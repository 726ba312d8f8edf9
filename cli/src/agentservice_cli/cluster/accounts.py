"""Decides what the accounts of an AgentLedger say to a person: spend, what is left, until when, and at this rate how long. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from agentservice_api.budget import UNLIMITED, ZERO, Amount, LedgerSpec, LedgerStatus, ModelSpend, usd_string
from agentservice_api.budget.books import calendar
from agentservice_api.budget.ledger import ClosedWindow, Holder, WindowState, instant, instant_text
from agentservice_api.budget.windows import WINDOWS, UnknownTimeZone, WindowName, zone
from agentservice_cli.cluster.plain import Manifest, part, text
from agentservice_cli.exits import CliError

_RATE_AFTER: Final = timedelta(minutes=5)
"""A window that is younger says nothing about a rate."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """One AgentLedger."""

    namespace: str
    name: str
    spec: LedgerSpec
    status: LedgerStatus
    labels: Mapping[str, str]

    @property
    def zone(self) -> ZoneInfo:
        """The budget's time zone, UTC where this machine does not know it."""
        try:
            return zone(self.spec.time_zone)
        except UnknownTimeZone:
            return ZoneInfo("UTC")


@dataclass(frozen=True, kw_only=True)
class WindowLine:
    """A current window. ``percent`` is the larger of both units', None without a limit."""

    name: str
    start: datetime
    end: datetime
    limit: Amount
    settled: Amount
    presumed: Amount
    overrun: Amount
    held: Amount
    percent: float | None
    exhausted_at: datetime | None
    """At the rate since the window began; None when it lasts, or cannot be said."""
    models: tuple[ModelSpend, ...]

    @property
    def spent(self) -> Amount:
        """What cannot be spent again."""
        return self.settled + self.presumed + self.overrun

    def document(self) -> dict[str, Any]:
        """Return the members of -o json and yaml."""
        return {
            "name": self.name,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "limit": amount_document(self.limit),
            "spent": amount_document(self.spent),
            "settled": amount_document(self.settled),
            "presumed": amount_document(self.presumed),
            "overrun": amount_document(self.overrun),
            "held": amount_document(self.held),
            "percent": None if self.percent is None else round(self.percent, 2),
            "exhaustedAt": self.exhausted_at.isoformat() if self.exhausted_at else None,
            "models": [{"name": m.name, "price": m.price, **amount_document(m.amount)} for m in self.models],
        }


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one model cost one agent in one month, or what is presumed (model ``presumed``)."""

    month: str
    group: str
    namespace: str
    agent: str
    model: str
    price: str
    tokens: int
    usd: str
    is_open: bool
    """The month, or what the agent has of it, is not over."""


def account_of(manifest: Manifest) -> Account:
    """Read an AgentLedger. Raises CliError."""
    metadata = part(manifest, "metadata")
    try:
        return Account(
            namespace=text(metadata, "namespace"),
            name=text(metadata, "name"),
            spec=LedgerSpec.model_validate(part(manifest, "spec")),
            status=LedgerStatus.model_validate(part(manifest, "status")),
            labels={key: str(value) for key, value in part(metadata, "labels").items()},
        )
    except ValidationError as error:
        raise CliError(
            f"the AgentLedger {text(metadata, 'name')} cannot be read: {error.error_count()} fields do not fit",
            mend="use the command line of the operator's version; agentservice doctor compares them",
        ) from None


def lines(account: Account, *, now: datetime) -> tuple[WindowLine, ...]:
    """Return the current windows. One that no pod has opened yet, because nobody asked since the last ended, is empty."""
    found = (_current(account, name, now) for name in WINDOWS)
    return tuple(_line(account, window, now) for window in found if window is not None)


def _current(account: Account, name: WindowName, now: datetime) -> WindowState | None:
    latest = account.status.current(name.value)
    if latest is None or now < instant(latest.end):
        return latest
    spec = account.spec.model_copy(update={"time_zone": account.zone.key})
    window = calendar(spec, name, latest.window, now)
    return WindowState(name=name.value, start=instant_text(window.start), end=instant_text(window.end))


def clock(moment: datetime, time_zone: tzinfo, *, here: tzinfo | None = None) -> str:
    """Return the moment in the budget's zone, and where the reader is (``here``; None: this machine's zone) if that differs."""
    there, local = moment.astimezone(time_zone), moment.astimezone(here)
    told = f"{there:%Y-%m-%d %H:%M %Z}"
    return told if there.utcoffset() == local.utcoffset() else f"{told} (here {local:%Y-%m-%d %H:%M %Z})"


def holders(account: Account, *, now: datetime) -> tuple[Holder, ...]:
    """Return who holds something of a current window, the largest hand first."""
    keys = {window.key for window in account.status.windows if now < instant(window.end)}
    hands = (hand for hand in account.status.holders if hand.key in keys and hand.held)
    return tuple(sorted(hands, key=lambda hand: (hand.window, -hand.tokens, -hand.nano_usd)))


def _line(account: Account, window: WindowState, now: datetime) -> WindowLine:
    limit = account.spec.limit(window.name)
    held = sum((hand.held for hand in account.status.holders if hand.key == window.key), ZERO)
    return WindowLine(
        name=window.name,
        start=instant(window.start),
        end=instant(window.end),
        limit=limit,
        settled=window.settled,
        presumed=window.presumed,
        overrun=window.overrun,
        held=held,
        percent=percent(window.spent, limit),
        exhausted_at=_forecast(window, limit, now),
        models=tuple(sorted(window.models, key=lambda model: (-model.nano_usd, -model.tokens))),
    )


def percent(spent: Amount, limit: Amount) -> float | None:
    """Return the larger of both units' percentages; None without any limit."""
    found = [
        100.0 if most == 0 else 100.0 * used / most
        for used, most, none in (
            (spent.tokens, limit.tokens, UNLIMITED.tokens),
            (spent.nano_usd, limit.nano_usd, UNLIMITED.nano_usd),
        )
        if most != none
    ]
    return max(found, default=None)


def _forecast(window: WindowState, limit: Amount, now: datetime) -> datetime | None:
    start, end = instant(window.start), instant(window.end)
    elapsed = now - start
    used = percent(window.spent, limit)
    if used is None or used <= 0 or elapsed < _RATE_AFTER:
        return None
    if used >= 100:
        return now
    moment = start + elapsed * (100.0 / used)
    return moment if moment < end else None


def charges(accounts: Iterable[Account], *, month: str, groups: Mapping[tuple[str, str], str]) -> tuple[Charge, ...]:
    """Return what each agent's models cost in ``month`` (YYYY-MM in the budget's zone); ``groups`` by namespace and name."""
    found = [
        charge
        for account in accounts
        for charge in _charges_of(account, month, groups.get((account.namespace, account.name), ""))
    ]
    return tuple(sorted(found, key=lambda c: (c.group, c.namespace, c.agent, c.model, c.price)))


def _charges_of(account: Account, month: str, group: str) -> Iterator[Charge]:
    books: list[tuple[WindowState | ClosedWindow, Amount, bool]] = [
        (book, Amount(book.presumed_tokens, book.presumed_nano_usd), False) for book in account.status.closed
    ]
    books += [(window, window.presumed, True) for window in account.status.windows]
    for book, presumed, is_open in books:
        if book.name != "monthly" or _month(book, account.zone) != month:
            continue
        lines = [(model.name, model.price, model.amount) for model in book.models]
        for model, price, amount in (*lines, *((("presumed", "", presumed),) if presumed else ())):
            yield Charge(
                month=month,
                group=group,
                namespace=account.namespace,
                agent=account.name,
                model=model,
                price=price,
                tokens=amount.tokens,
                usd=usd_string(amount.nano_usd),
                is_open=is_open,
            )


def _month(book: WindowState | ClosedWindow, time_zone: ZoneInfo) -> str:
    """Return the month that a window is of: where its middle lies, because a change of the zone moves its bounds."""
    start, end = instant(book.start), instant(book.end)
    return (start + (end - start) / 2).astimezone(time_zone).strftime("%Y-%m")


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Limits for an agent, from the days that are in the books."""

    days: int
    daily: Amount
    monthly: Amount


def suggestion(account: Account, *, headroom: float) -> Suggestion | None:
    """Return limits that all but the largest days would have fitted, and ``headroom`` more (0.25: a quarter).

    A month is 31 average days, with the same headroom. None when no day with spend is in the books.
    """
    days = [book for book in account.status.closed if book.name == "daily" and (book.tokens or book.nano_usd)]
    if not days:
        return None
    factor = 1 + headroom
    tokens, nano = sorted(day.tokens for day in days), sorted(day.nano_usd for day in days)
    daily = Amount(round(_p95(tokens) * factor), round(_p95(nano) * factor))
    average = Amount(round(sum(tokens) / len(days) * 31 * factor), round(sum(nano) / len(days) * 31 * factor))
    return Suggestion(days=len(days), daily=daily, monthly=average.at_least(daily))


def _p95(ordered: Sequence[int]) -> int:
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def amount_document(amount: Amount) -> dict[str, Any]:
    """Return tokens and USD; a unit without a limit is None."""
    return {
        "tokens": None if amount.tokens == UNLIMITED.tokens else amount.tokens,
        "usd": None if amount.nano_usd == UNLIMITED.nano_usd else usd_string(amount.nano_usd),
    }
