"""Decides what becomes of an AgentLedger: created, seeded, restored, kept in step, tidied up, and at last deleted.

It belongs to no AgentService: it outlives it, so that deleting one and applying it again resets nothing. One step at a
time: `next_step` names the next write, and is asked again with what that write left, until there is nothing to do.
The accounts themselves are changed by `agentservice_api.budget.books` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import orjson

from agentservice_api import EventReason, names
from agentservice_api.budget import LedgerSpec, LedgerStatus, WindowState, usd_string
from agentservice_api.budget.books import close, closes_at, forgive_presumed, presume_all, presume_gone, roll
from agentservice_api.budget.ledger import instant
from agentservice_operator.manifest import Manifest
from agentservice_operator.report import Announcement

KEPT_BEYOND_WINDOWS: Final = timedelta(days=62)
"""How long the ledger of an AgentService that is gone stays after its last window has ended: last month's books can be exported."""
REDIS_HOLDER: Final = "redis-"
"""Begins the name of a holder that is a Redis. Pods, which speak with it, tell its death; when none of them is left nobody asks it any more."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An AgentLedger as it was last seen. The books in `status.closed` are left out until they are asked for."""

    spec: LedgerSpec
    status: LedgerStatus
    created: datetime
    version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    books: str = ""

    @property
    def whole(self) -> LedgerStatus:
        """The status with its books."""
        closed: list[Manifest] = orjson.loads(self.books) if self.books else []
        return LedgerStatus.model_validate({**self.status.model_dump(by_alias=True), "closed": closed})

    @property
    def expires(self) -> datetime:
        """When nobody needs it any more, once its AgentService is gone."""
        ends = (instant(window.end) for window in self.status.windows)
        return max(ends, default=self.created) + KEPT_BEYOND_WINDOWS


def account(stored: Manifest) -> Account:
    """Read an AgentLedger as `observe.trim_ledger` keeps it. Raises ValueError for one that no version of ours wrote."""
    metadata = stored["metadata"]
    return Account(
        spec=LedgerSpec.model_validate(stored.get("spec") or {}),
        status=LedgerStatus.model_validate(stored.get("status") or {}),
        created=instant(metadata["creationTimestamp"]),
        version=metadata["resourceVersion"],
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        books=stored.get("books") or "",
    )


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The last seeded state that was seen of a ledger which is deleted or emptied."""

    account: Account
    is_last: bool
    """Whether nothing can have been written after it: false when it vanished while nobody watched."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known when a ledger is looked at."""

    name: str
    wanted: LedgerSpec | None
    """What shall be in force; None without a budget, without an AgentService, or with a specification that is refused."""
    has_service: bool
    """Whether the AgentService exists."""
    live: Account | None
    lost: Lost | None = None
    existed: bool = False
    """Whether the AgentService's status knows of earlier accounts."""
    gone: Callable[[str], bool] = lambda _: False
    """Tells whether a holder's process is gone for good."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """The labels that it has to bear."""
    now: datetime
    """By the API server's clock."""


@dataclass(frozen=True, kw_only=True)
class Create:
    """Create it. Its accounts follow: a status cannot be created along with its object."""

    spec: LedgerSpec


@dataclass(frozen=True, kw_only=True)
class Adjust:
    """Patch the object beside its status; None takes a member away."""

    patch: Manifest


@dataclass(frozen=True, kw_only=True)
class Write:
    """Write the status over the one that was judged, and nothing else."""

    before: LedgerStatus
    after: LedgerStatus
    announcements: tuple[Announcement, ...] = ()

    @property
    def patch(self) -> Manifest:
        """The members that change, each as a whole: what a JSON merge patch sends."""
        old, new = (status.model_dump(mode="json", by_alias=True) for status in (self.before, self.after))
        return {member: value for member, value in new.items() if value != old[member]}


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete it."""


@dataclass(frozen=True, kw_only=True)
class Rest:
    """There is nothing to do before ``until``, unless something happens; None: for ever."""

    until: datetime | None = None


Step = Create | Adjust | Write | Delete | Rest


def next_step(situation: Situation) -> Step:
    """Return the next write. Raises UnknownTimeZone for a specification that nobody should have accepted."""
    live, wanted = situation.live, situation.wanted
    if live is None:
        return Rest() if wanted is None else Create(spec=wanted)
    patch = _adjustment(situation, live)
    if patch:
        return Adjust(patch=patch)
    if not live.status.seeded:
        return _seed(situation, live)
    request = live.annotations.get(names.ANNOTATION_FORGIVE)
    if request is not None:
        return _forgive(live, request, situation.now)
    if not situation.has_service and situation.now >= live.expires:
        return Delete()
    tidy = presume_gone(live.status, situation.gone)
    due = closes_at(tidy)
    if due is not None and due <= situation.now:
        before = live.whole
        return Write(before=before, after=close(presume_gone(before, situation.gone), now=situation.now))
    if tidy != live.status:
        return Write(before=live.status, after=tidy)
    times = [due, None if situation.has_service else live.expires]
    return Rest(until=min((time for time in times if time is not None), default=None))


def is_wanted_back(lost: Account, now: datetime) -> bool:
    """Tell whether a ledger that vanished holds anything that a later one must know."""
    return lost.status.seeded and now < lost.expires


def is_pod(holder: str) -> bool:
    """Tell whether a holder is a process of a pod."""
    return not holder.startswith(REDIS_HOLDER)


def pod_uid(holder: str) -> str:
    """Return the UID of the pod whose process a holder is."""
    return holder.partition("/")[0]


def _adjustment(situation: Situation, live: Account) -> Manifest:
    """Return the patch after which the object says what is wanted; parents are somebody else's."""
    patch: Manifest = {}
    if situation.wanted is not None:
        members = set(LedgerSpec.model_fields) - {"parents"}
        old, new = (
            spec.model_dump(mode="json", by_alias=True, exclude_none=True, include=members)
            for spec in (live.spec, situation.wanted)
        )
        changed = {member: value for member, value in new.items() if value != old.get(member)}
        if changed:
            patch["spec"] = changed
        labels = {label: value for label, value in situation.labels.items() if live.labels.get(label) != value}
        if labels:
            patch["metadata"] = {"labels": labels}
    return patch


def _seed(situation: Situation, live: Account) -> Step:
    before, lost, now = live.whole, situation.lost, situation.now
    spec = situation.wanted or live.spec
    if before.windows:  # somebody took the mark away and left the accounts
        return Write(before=before, after=before.model_copy(update={"seeded": True}))
    if lost is not None and lost.is_last:
        after = lost.account.whole.model_copy(update={"seeded": True})
        return Write(before=before, after=after, announcements=(_restored(),))
    if lost is None and not situation.existed:
        if situation.wanted is None:
            return Rest(until=None if situation.has_service else live.expires)  # nobody's, and made by hand
        return Write(before=before, after=roll(LedgerStatus(seeded=True), spec, now=now))
    known = lost.account.whole if lost is not None else before
    rolled = roll(known.model_copy(update={"seeded": True}), spec, now=now)
    after = presume_all(presume_gone(rolled, lambda _: True), spec)
    return Write(before=before, after=after, announcements=tuple(_presumed(after, situation.name)))


def _forgive(live: Account, request: str, now: datetime) -> Step:
    asked = [window for window in live.status.windows if _is_asked(live.status, window, request)]
    status, why = live.status, _reason(live)
    for window in asked:
        status = forgive_presumed(status, window.key)
    if status != live.status:
        notes = tuple(_forgiven(window, why) for window in asked if window.presumed)
        return Write(before=live.status, after=status, announcements=notes)
    done = f"{request} at {now:%Y-%m-%dT%H:%M:%SZ}"
    if not asked:
        done += ": there is no such window, write daily, monthly or a window's start"
    elif why:
        done += f": {why}"
    record: dict[str, str | None] = {names.ANNOTATION_FORGIVE: None, names.ANNOTATION_FORGIVEN: done}
    if names.ANNOTATION_FORGIVE_REASON in live.annotations:
        record[names.ANNOTATION_FORGIVE_REASON] = None
    return Adjust(patch={"metadata": {"annotations": record}})


def _reason(live: Account) -> str:
    """Return why a person asked, on one line; empty when nothing is said."""
    return " ".join(live.annotations.get(names.ANNOTATION_FORGIVE_REASON, "").split())[: names.MAX_FORGIVE_REASON]


def _is_asked(status: LedgerStatus, window: WindowState, request: str) -> bool:
    return request == window.start or (request == window.name and window is status.current(window.name))


def _restored() -> Announcement:
    return Announcement(
        reason=EventReason.LEDGER_RESTORED.value,
        action="Restore",
        note="the AgentLedger was deleted or emptied, and has its last accounts again",
        warning=True,
    )


def _presumed(status: LedgerStatus, name: str) -> Iterator[Announcement]:
    for window in status.windows:
        if window.presumed and window is status.current(window.name):
            yield Announcement(
                reason=EventReason.LEDGER_PRESUMED.value,
                action="Restore",
                note=f"the accounts of the {window.name} window were lost: all that was left of it counts as spent until {window.end}. "
                f"To give it back: kubectl annotate agentledger {name} {names.ANNOTATION_FORGIVE}={window.name}",
                warning=True,
            )


def _forgiven(window: WindowState, why: str) -> Announcement:
    amount = window.presumed
    said = f": {why}" if why else ""
    return Announcement(
        reason=EventReason.PRESUMED_FORGIVEN.value,
        action="Forgive",
        note=f"{amount.tokens} tokens and {usd_string(amount.nano_usd)} USD that were presumed spent of the {window.name} window from "
        f"{window.start} were given back, because the annotation {names.ANNOTATION_FORGIVE} asked for it{said}",
        warning=True,
    )
