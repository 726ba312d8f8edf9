"""A real API server takes every change of an AgentLedger that the books make, and refuses what would break them."""

import copy
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.services.ledger_walk import BEGIN, Walk, limits

from agentservice_api.budget import Amount, Enforcement, LedgerSpec, LedgerStatus
from agentservice_api.budget.books import Posting, post, roll
from agentservice_api.budget.ledger import MAX_HOLDERS, MAX_WINDOWS, Holder
from devcluster.api import RefusedError
from devcluster.standalone import StandaloneControlPlane

MERGE = "application/merge-patch+json"
Document = dict[str, Any]
HARD = Enforcement.HARD


class Ledger:
    """One AgentLedger on the server."""

    def __init__(self, plane: StandaloneControlPlane, namespace: str, name: str, spec: LedgerSpec) -> None:
        self.api = plane.api
        self.path = f"/apis/agentservice.dev/v1alpha1/namespaces/{namespace}/agentledgers"
        self.live = self.api.request(
            "POST",
            f"{self.path}?fieldValidation=Strict",
            {
                "apiVersion": "agentservice.dev/v1alpha1",
                "kind": "AgentLedger",
                "metadata": {"name": name},
                "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            },
        )
        self.path += f"/{name}"

    def write(self, status: LedgerStatus | Document) -> None:
        """As the pods and the operator write it."""
        plain = status.model_dump(mode="json", by_alias=True) if isinstance(status, LedgerStatus) else status
        version = self.live["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "status": plain}
        self.live = self.api.request("PATCH", f"{self.path}/status?fieldValidation=Strict", body, content_type=MERGE)

    def change(self, spec: LedgerSpec) -> None:
        body = {"spec": {**spec.model_dump(mode="json", by_alias=True), "prices": [], "parents": []}}
        self.live = self.api.request("PATCH", f"{self.path}?fieldValidation=Strict", body, content_type=MERGE)

    @property
    def status(self) -> Document:
        return copy.deepcopy(self.live["status"])


def test_the_definition_is_established(control_plane: StandaloneControlPlane) -> None:
    definition = control_plane.api.request(
        "GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agentledgers.agentservice.dev"
    )
    conditions = {c["type"]: c["status"] for c in definition["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_a_new_ledger_is_not_seeded_whatever_its_creator_writes_into_its_status(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    ledger = Ledger(control_plane, namespace, "hello", LedgerSpec())
    assert ledger.status == {"seeded": False, "windows": [], "holders": [], "closed": []}


@pytest.mark.parametrize("seed", range(4))
def test_every_change_that_the_books_can_make_is_accepted(
    control_plane: StandaloneControlPlane, namespace: str, seed: int
) -> None:
    walk = Walk(random.Random(seed))
    ledger = Ledger(control_plane, namespace, f"walk-{seed}", walk.spec)
    walk.begin()
    ledger.write(walk.status)
    done = [walk.step]
    for _ in range(200):
        spec, status = walk.spec, walk.status
        walk.go()
        done.append(walk.step)
        try:
            if walk.spec != spec:
                ledger.change(walk.spec)
            if walk.status != status:
                ledger.write(walk.status)
        except RefusedError as error:
            pytest.fail(f"{error} after {done[-6:]}")
        assert LedgerStatus.model_validate(ledger.status) == walk.status
    assert {step.__name__ for step in walk.steps()} <= set(done)


def test_accounts_beyond_a_limit_that_fell_can_be_restored_and_go_on(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    generous, tight = (limits(HARD, tokens=n, nano_usd=None) for n in (1000, 100))
    status = roll(LedgerStatus(seeded=True), generous, now=BEGIN)
    status = taken(status, generous, "one/a", 800)
    restored = Ledger(control_plane, namespace, "restored", tight)
    restored.write(status)
    day = status.current("daily")
    assert day is not None
    status, _ = post(status, tight, "one/a", [Posting(key=day.key, returned=Amount(100, 0))])
    restored.write(status)
    with pytest.raises(RefusedError, match="may not grow beyond the limit"):
        restored.write(taken(status, generous, "one/a", 50))


def taken(status: LedgerStatus, spec: LedgerSpec, holder: str, tokens: int) -> LedgerStatus:
    amount = Amount(tokens, 0)
    windows = [w for w in status.windows if w is status.current(w.name)]
    return post(status, spec, holder, [Posting(key=w.key, need=amount, want=amount) for w in windows])[0]


def busy(*, days: int = 1) -> tuple[LedgerSpec, LedgerStatus]:
    """Accounts in the middle of things: two holders, spend, overrun, presumed; the day before not closed yet."""
    walk = Walk(random.Random(11))
    walk.begin()
    for _ in range(30):
        walk.takes()
        walk.spends()
        walk.loses()
    for _ in range(days):
        walk.now += timedelta(days=1)
        walk.status = roll(walk.status, walk.spec, now=walk.now)
    for _ in range(6):
        walk.takes()
        walk.spends()
    return walk.spec, walk.status


def day(status: Document) -> Document:
    return next(window for window in status["windows"] if window["name"] == "daily")


def day_before(status: Document) -> Document:
    return [window for window in status["windows"] if window["name"] == "daily"][-1]


def hand(status: Document) -> Document:
    return next(h for h in status["holders"] if h["start"] == day(status)["start"] and h["window"] == "daily")


def emptied(status: Document) -> None:
    status.clear()


def falls(*path: str) -> Callable[[Document], None]:
    def edit(status: Document) -> None:
        day(status)[path[0]] -= 1

    return edit


def settled_is_forgotten(status: Document) -> None:
    window = day(status)
    model = next(m for m in window["models"] if m["tokens"])
    model["tokens"] -= 1
    window["settledTokens"] -= 1
    window["authorizedTokens"] -= 1


def overrun_is_forgotten(status: Document) -> None:
    window = next(w for w in status["windows"] if w["overrunTokens"])
    left = window["overrunTokens"]
    window["overrunTokens"] = 0
    for model in window["models"]:
        taken_off = min(left, model["tokens"])
        model["tokens"] -= taken_off
        left -= taken_off


def hands_are_filled(status: Document) -> None:
    hand(status)["tokens"] += 100_000
    hand(status)["seq"] += 1
    day(status)["authorizedTokens"] += 100_000


def money_is_handed_out(status: Document) -> None:
    hand(status)["nanoUSD"] += 1_000_000
    hand(status)["seq"] += 1
    day(status)["authorizedNanoUSD"] += 1_000_000


def a_hand_is_emptied_by_somebody_else(status: Document) -> None:
    day(status)["authorizedTokens"] -= hand(status)["tokens"]
    hand(status)["tokens"] = 0


def a_hand_is_struck_off_and_given_back(status: Document) -> None:
    gone = hand(status)
    status["holders"].remove(gone)
    day(status)["authorizedTokens"] -= gone["tokens"]
    day(status)["authorizedNanoUSD"] -= gone["nanoUSD"]


def the_day_begins_anew(status: Document) -> None:
    window = day(status)
    anew = {"name": "daily", "start": window["start"].replace(":00Z", ":01Z"), "end": window["end"]}
    status["windows"].insert(0, anew)


def the_day_is_gone(status: Document) -> None:
    gone = day(status)
    status["windows"].remove(gone)
    status["holders"] = [h for h in status["holders"] if (h["window"], h["start"]) != (gone["name"], gone["start"])]


def the_day_is_moved_to_the_books(status: Document) -> None:
    gone = day(status)
    the_day_is_gone(status)
    tokens, nano = (gone[f"settled{unit}"] + gone[f"overrun{unit}"] for unit in ("Tokens", "NanoUSD"))
    status["closed"].append(
        {"name": "daily", "start": gone["start"], "end": gone["end"], "tokens": tokens, "nanoUSD": nano}
    )


def the_day_before_is_closed_for_less(status: Document) -> None:
    gone = day_before(status)
    status["windows"].remove(gone)
    status["holders"] = [h for h in status["holders"] if (h["window"], h["start"]) != (gone["name"], gone["start"])]
    status["closed"].append({"name": "daily", "start": gone["start"], "end": gone["end"], "tokens": 1, "nanoUSD": 1})


def the_day_is_longer(status: Document) -> None:
    day(status)["end"] = "2026-12-01T00:00:00Z"


def granted_falls(status: Document) -> None:
    hand(status)["grantedTokens"] -= 1
    hand(status)["seq"] += 1


def seq_falls(status: Document) -> None:
    hand(status)["seq"] -= 1


def unseeded(status: Document) -> None:
    status["seeded"] = False


def models_do_not_add_up(status: Document) -> None:
    day(status)["models"][0]["nanoUSD"] += 1


def lists_are_taken_away(status: Document) -> None:
    status["windows"] = None
    status["holders"] = None


BAD: list[tuple[Callable[[Document], None], str]] = [
    (unseeded, "status may not be removed or unseeded"),
    (falls("authorizedTokens"), "authorized must be settled + presumed + what its holders hold"),
    (falls("presumedTokens"), "authorized must be settled + presumed + what its holders hold"),
    (falls("settledTokens"), "what is settled never falls"),
    (settled_is_forgotten, "what is settled never falls"),
    (overrun_is_forgotten, "what was overrun never falls"),
    (models_do_not_add_up, "models must add up"),
    (hands_are_filled, "authorizedTokens may not grow beyond the limit"),
    (money_is_handed_out, "authorizedNanoUSD may not grow beyond the limit"),
    (a_hand_is_emptied_by_somebody_else, "only the holder itself changes what it holds"),
    (a_hand_is_struck_off_and_given_back, "authorized may not fall while a holder leaves"),
    (granted_falls, "what was granted only grows"),
    (seq_falls, "only the holder itself changes what it holds"),
    (the_day_begins_anew, "windows only move forward"),
    (the_day_is_gone, "a window leaves only when a later one"),
    (the_day_is_moved_to_the_books, "a window leaves only when a later one"),
    (the_day_before_is_closed_for_less, "a window leaves only when a later one"),
    (the_day_is_longer, "a window's end never changes"),
    (lists_are_taken_away, "a window leaves only when a later one"),
]


@pytest.mark.parametrize(("edit", "says"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_an_edit_that_would_break_the_books_is_refused_and_told_why(
    control_plane: StandaloneControlPlane, namespace: str, edit: Callable[[Document], None], says: str
) -> None:
    spec, status = busy()
    ledger = Ledger(control_plane, namespace, "books", spec)
    ledger.write(status)
    edited = ledger.status
    edit(edited)
    with pytest.raises(RefusedError) as refused:
        ledger.write(edited)
    assert refused.value.status == 422
    assert says in str(refused.value)


@pytest.mark.parametrize("body", [{"status": None}, {"status": {"seeded": None}}], ids=str)
def test_a_seeded_status_cannot_be_taken_away(
    control_plane: StandaloneControlPlane, namespace: str, body: Document
) -> None:
    spec, status = busy()
    ledger = Ledger(control_plane, namespace, "books", spec)
    ledger.write(status)
    with pytest.raises(RefusedError, match="status may not be removed"):
        ledger.api.request("PATCH", f"{ledger.path}/status", body, content_type=MERGE)
    with pytest.raises(RefusedError, match="status may not be removed"):
        ledger.api.request("PUT", f"{ledger.path}/status", {k: v for k, v in ledger.live.items() if k != "status"})


def test_the_books_of_a_closed_window_never_change(control_plane: StandaloneControlPlane, namespace: str) -> None:
    walk = Walk(random.Random(3))
    walk.begin()
    walk.takes()
    walk.spends()
    walk.now += timedelta(days=2)
    walk.status = roll(walk.status, walk.spec, now=walk.now)
    walk.closes()
    assert walk.status.closed
    ledger = Ledger(control_plane, namespace, "books", walk.spec)
    ledger.write(walk.status)
    edited = ledger.status
    edited["closed"][0]["tokens"] += 1
    with pytest.raises(RefusedError, match="its books never change"):
        ledger.write(edited)


def test_a_stale_write_is_a_conflict(control_plane: StandaloneControlPlane, namespace: str) -> None:
    spec, status = busy()
    ledger = Ledger(control_plane, namespace, "books", spec)
    before = ledger.live
    ledger.write(status)
    ledger.live = before
    with pytest.raises(RefusedError) as refused:
        ledger.write(status)
    assert refused.value.status == 409


def test_as_many_holders_and_windows_as_can_be_listed_pass_the_cost_limit(
    control_plane: StandaloneControlPlane, namespace: str
) -> None:
    spec, now = limits(HARD, tokens=10**9, nano_usd=10**14), BEGIN
    status = LedgerStatus(seeded=True)
    while len(status.windows) < MAX_WINDOWS:
        status = roll(status, spec, now=now)
        now += timedelta(days=1)
    each = MAX_HOLDERS // MAX_WINDOWS
    hands = [
        Holder(holder=f"{'0' * 36}/{'w' * 8}-{n}", window=w.name, start=w.start, tokens=1, granted_tokens=1, seq=1)
        for w in status.windows
        for n in range(each)
    ]
    first = status.current("daily")
    assert first is not None
    spare = MAX_HOLDERS - len(hands)
    hands += [Holder(holder=f"spare-{n}", window=first.name, start=first.start, seq=1) for n in range(spare)]
    windows = tuple(w.model_copy(update={"authorized_tokens": each}) for w in status.windows)
    full = status.model_copy(update={"windows": windows, "holders": tuple(hands)})
    assert (len(full.holders), len(full.windows)) == (MAX_HOLDERS, MAX_WINDOWS)
    ledger = Ledger(control_plane, namespace, "crowded", spec)
    ledger.write(full)
    full, _ = post(full, spec, hands[0].holder, [Posting(key=first.key, want=Amount(7, 0))])
    # one more holder than fits was never asked for: this one is known
    assert len(full.holders) == MAX_HOLDERS
    ledger.write(full)


def test_kubectl_shows_the_current_windows(control_plane: StandaloneControlPlane, namespace: str) -> None:
    spec, status = busy(days=2)
    Ledger(control_plane, namespace, "hello", spec).write(status)
    heads, values = control_plane.kubectl("-n", namespace, "get", "agl").stdout.splitlines()
    assert heads.split() == ["NAME", "ENFORCEMENT", "SEEDED", "TODAY", "DAY", "LIMIT", "MONTH", "MONTH", "LIMIT", "AGE"]
    today, month = status.current("daily"), status.current("monthly")
    assert today is not None
    assert month is not None
    assert values.split()[:7] == [
        "hello", "Hard", "true", str(today.settled_tokens), "1000", str(month.settled_tokens), "10000",
    ]  # fmt: skip
