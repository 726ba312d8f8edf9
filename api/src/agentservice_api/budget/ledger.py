"""Decides the shape of an AgentLedger: the durable side of a budget, one per AgentService that ever had one.

Its `spec` is the operator's: limits and prices as they are in force now, so that a change of either reaches the pods
without a restart. Its `status` is written by the pods, and by the operator for those that are gone, always as a whole
and with the resourceVersion just read. `agentservice_api.budget.books` has the only functions that change a status.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from agentservice_api.budget import ledger_rules
from agentservice_api.budget.amount import MAX_UNITS, UNLIMITED, Amount
from agentservice_api.budget.windows import Window
from agentservice_api.schema import ListType, Model, Rule, SchemaDefault

LEDGER_KIND: Final = "AgentLedger"
LEDGER_PLURAL: Final = "agentledgers"
MAX_WINDOWS: Final = 16
MAX_HOLDERS: Final = 1000
MAX_CLOSED: Final = 80
MAX_MODELS: Final = 16
MAX_PRICES: Final = 256
OTHER_MODELS: Final = "other"
"""The name under which spend is summed once MAX_MODELS are listed."""


class Enforcement(StrEnum):
    """What a limit does."""

    HARD = "Hard"
    """Requests that do not fit are refused."""
    SOFT = "Soft"
    """Everything is served; reaching the limit is told."""
    OBSERVE = "Observe"
    """Everything is served and counted."""


Tokens = Annotated[int, Field(ge=0, le=MAX_UNITS)]
NanoUSD = Annotated[int, Field(ge=0, le=MAX_UNITS)]
Count = Annotated[int, Field(ge=0, le=MAX_UNITS), SchemaDefault(0)]
"""Tokens or nano-USD of an account. The API server writes its 0, so that no rule has to ask whether it is there."""
Instant = Annotated[str, StringConstraints(min_length=20, max_length=32, pattern=r"^[0-9TZ:.-]+$")]
"""RFC 3339 in UTC, ending in Z."""
WindowKind = Literal["daily", "monthly"]


class WindowLimit(Model):
    """The limits of one window. A unit without a limit is counted all the same."""

    name: WindowKind = Field(description="daily or monthly.")
    tokens: Tokens | None = Field(default=None, description="Tokens at most. Absent: unlimited.")
    nano_usd: NanoUSD | None = Field(default=None, description="Nano-USD at most. Absent: unlimited.")

    @property
    def amount(self) -> Amount:
        """The limit, with UNLIMITED's unit where none is set."""
        return Amount(
            UNLIMITED.tokens if self.tokens is None else self.tokens,
            UNLIMITED.nano_usd if self.nano_usd is None else self.nano_usd,
        )


_Figure = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]{1,6}(\.[0-9]{1,9})?$")]


class ModelPrice(Model):
    """A price that replaces the built-in one: of spec.model.pricing or of the price book. Decimal strings of USD."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="A pydantic-ai model string."
    )
    input_per_million_usd: _Figure = Field(description="USD per million input tokens.")
    output_per_million_usd: _Figure = Field(description="USD per million output tokens.")
    cached_input_per_million_usd: _Figure | None = Field(
        default=None,
        description="USD per million input tokens read from the provider's cache. Absent: as input.",
    )
    source: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="Where the price stands, and its figures as its version: spec/0.15:0.6:0.075 or price-book/0.15:0.6."
    )


class LedgerSpec(Model):
    """What is in force now, written by the operator."""

    time_zone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        default="UTC", description="The IANA zone of the next windows' bounds."
    )
    enforcement: Annotated[Enforcement, SchemaDefault(Enforcement.HARD.value)] = Field(
        default=Enforcement.HARD, description="What a limit does."
    )
    windows: Annotated[tuple[WindowLimit, ...], ListType("map", ("name",)), Field(max_length=2), SchemaDefault(())] = (
        Field(default=(), description="The limits.")
    )
    prices: Annotated[tuple[ModelPrice, ...], ListType("map", ("model",)), Field(max_length=MAX_PRICES)] = Field(
        default=(), description="Prices that replace the built-in ones, from this moment on."
    )
    parents: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=253)], ...],
        ListType("set"),
        Field(max_length=8),
    ] = Field(default=(), description="Ledgers of AgentBudgets above it. Not used yet.")

    def limit(self, name: str) -> Amount:
        """Return the limit of the window called ``name``; UNLIMITED where none is set."""
        return next((window.amount for window in self.windows if window.name == name), UNLIMITED)

    @property
    def is_hard(self) -> bool:
        """Whether a limit refuses."""
        return self.enforcement is Enforcement.HARD

    @property
    def limits_money(self) -> bool:
        """Whether any window has a limit in USD."""
        return any(window.nano_usd is not None for window in self.windows)


class ModelSpend(Model):
    """What one model cost at one price."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(description="The model.")
    price: Annotated[str, StringConstraints(max_length=128), SchemaDefault("")] = Field(
        default="", description="The price's source and version. Empty: not priced."
    )
    tokens: Count = Field(default=0, description="Tokens.")
    nano_usd: Count = Field(default=0, description="Nano-USD.")

    @property
    def amount(self) -> Amount:
        """Both units."""
        return Amount(self.tokens, self.nano_usd)


Models = Annotated[
    tuple[ModelSpend, ...], ListType("map", ("name", "price")), Field(max_length=MAX_MODELS), SchemaDefault(())
]


class WindowState(Model):
    """The account of one window. authorized = settled + presumed + what the holders hold, always."""

    rules: ClassVar[tuple[Rule, ...]] = ledger_rules.WINDOW

    name: WindowKind = Field(description="daily or monthly.")
    start: Instant = Field(description="First moment (RFC 3339, UTC).")
    end: Instant = Field(description="First moment after it.")
    authorized_tokens: Count = Field(default=0, description="Tokens that have left the pool: at most the limit.")
    authorized_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    settled_tokens: Count = Field(default=0, description="Tokens that the provider has billed, as reported so far.")
    settled_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    presumed_tokens: Count = Field(default=0, description="Tokens that are counted as spent because nobody can tell.")
    presumed_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    overrun_tokens: Count = Field(default=0, description="Tokens that were billed beyond the limit.")
    overrun_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    wanted_tokens: Count = Field(default=0, description="Tokens that a holder waits for: others return what is idle.")
    wanted_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    models: Models = Field(default=(), description="What each model cost, settled and overrun together.")

    @property
    def key(self) -> WindowKey:
        """Name and start."""
        return (self.name, self.start)

    @property
    def window(self) -> Window:
        """Its bounds."""
        return Window(self.name, instant(self.start), instant(self.end))

    @property
    def authorized(self) -> Amount:
        """What has left the pool."""
        return Amount(self.authorized_tokens, self.authorized_nano_usd)

    @property
    def settled(self) -> Amount:
        """What was billed within what was authorized."""
        return Amount(self.settled_tokens, self.settled_nano_usd)

    @property
    def presumed(self) -> Amount:
        """What counts as spent because nobody can tell."""
        return Amount(self.presumed_tokens, self.presumed_nano_usd)

    @property
    def overrun(self) -> Amount:
        """What was billed beyond the limit."""
        return Amount(self.overrun_tokens, self.overrun_nano_usd)

    @property
    def wanted(self) -> Amount:
        """What holders wait for."""
        return Amount(self.wanted_tokens, self.wanted_nano_usd)

    @property
    def spent(self) -> Amount:
        """Settled, presumed and overrun: what cannot be spent again."""
        return self.settled + self.presumed + self.overrun


class Holder(Model):
    """What one process (or one life of a Redis) holds of one window, spent by nobody else."""

    rules: ClassVar[tuple[Rule, ...]] = ledger_rules.HOLDER

    holder: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="Pod UID and a random word of this process: never a name, which another process may bear later."
    )
    window: WindowKind = Field(description="The window's name.")
    start: Instant = Field(description="The window's start.")
    tokens: Count = Field(default=0, description="Tokens held, reservations in flight included.")
    nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    granted_tokens: Count = Field(default=0, description="Tokens ever granted to it in this window.")
    granted_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    spent_tokens: Count = Field(
        default=0, description="Tokens that it has reported as billed, so that a report which comes again counts once."
    )
    spent_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    presumed_tokens: Count = Field(
        default=0,
        description="Tokens that it has lost, so that nobody can tell what became of them: a late settlement takes them back.",
    )
    presumed_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    forgiven_tokens: Count = Field(
        default=0,
        description="Of these, what was forgiven: it is in the pool again, and a late settlement finds nothing.",
    )
    forgiven_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    seq: Count = Field(
        default=0, description="Grows with each write of its holder, so that a lost answer is recognised."
    )

    @property
    def key(self) -> WindowKey:
        """The window's name and start."""
        return (self.window, self.start)

    @property
    def held(self) -> Amount:
        """What it holds."""
        return Amount(self.tokens, self.nano_usd)

    @property
    def granted(self) -> Amount:
        """What it was ever granted."""
        return Amount(self.granted_tokens, self.granted_nano_usd)

    @property
    def spent(self) -> Amount:
        """What it has reported as billed, beyond what it held too."""
        return Amount(self.spent_tokens, self.spent_nano_usd)

    @property
    def presumed(self) -> Amount:
        """What it has lost and may still find, forgiven or not."""
        return Amount(self.presumed_tokens, self.presumed_nano_usd)

    @property
    def forgiven(self) -> Amount:
        """What of this is in the pool again."""
        return Amount(self.forgiven_tokens, self.forgiven_nano_usd)


class ClosedWindow(Model):
    """A window that is over: the books. Days are kept for 62 days, months for 13 months."""

    rules: ClassVar[tuple[Rule, ...]] = ledger_rules.CLOSED

    name: WindowKind = Field(description="daily or monthly.")
    start: Instant = Field(description="First moment.")
    end: Instant = Field(description="First moment after it.")
    tokens: Count = Field(default=0, description="Tokens billed.")
    nano_usd: Count = Field(default=0, description="Nano-USD billed.")
    presumed_tokens: Count = Field(default=0, description="Tokens counted as spent because nobody can tell.")
    presumed_nano_usd: Count = Field(default=0, description="The same in nano-USD.")
    models: Models = Field(default=(), description="What each model cost.")


class LedgerStatus(Model):
    """The accounts. Pods refuse until `seeded`."""

    seeded: Annotated[bool, SchemaDefault(False)] = Field(
        default=False, description="Whether the accounts may be trusted."
    )
    windows: Annotated[
        tuple[WindowState, ...],
        ListType("map", ("name", "start")),
        Field(max_length=MAX_WINDOWS),
        SchemaDefault(()),
    ] = Field(
        default=(), description="Current windows, the newest first, and those that ended lately, for late settlements."
    )
    holders: Annotated[
        tuple[Holder, ...],
        ListType("map", ("holder", "window", "start")),
        Field(max_length=MAX_HOLDERS),
        SchemaDefault(()),
    ] = Field(default=(), description="Who holds how much.")
    closed: Annotated[
        tuple[ClosedWindow, ...], ListType("map", ("name", "start")), Field(max_length=MAX_CLOSED), SchemaDefault(())
    ] = Field(default=(), description="The books of closed windows.")

    def current(self, name: str) -> WindowState | None:
        """Return the window called ``name`` that began last."""
        # by moment, not by text: "00Z" sorts after "00.5Z"
        return max((w for w in self.windows if w.name == name), key=lambda w: instant(w.start), default=None)

    def window(self, key: WindowKey) -> WindowState | None:
        """Return the window with this name and start."""
        return next((w for w in self.windows if w.key == key), None)

    def holder(self, holder: str, key: WindowKey) -> Holder | None:
        """Return what ``holder`` holds of the window."""
        return next((h for h in self.holders if h.holder == holder and h.key == key), None)


class AgentLedger(Model):
    """The durable side of a budget. It has no owner: it outlives its AgentService until its longest window has closed."""

    rules: ClassVar[tuple[Rule, ...]] = ledger_rules.ROOT

    spec: LedgerSpec = LedgerSpec()
    status: LedgerStatus = LedgerStatus()


WindowKey = tuple[str, str]
"""A window's name and start."""


def instant(text: str) -> datetime:
    """Return the moment that an `Instant` writes."""
    return datetime.fromisoformat(text).astimezone(UTC)


def instant_text(moment: datetime) -> str:
    """Return the moment as an `Instant`; fractions of a second only where there are any."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
