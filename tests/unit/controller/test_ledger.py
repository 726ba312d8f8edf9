"""What becomes of an AgentLedger, step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from agentservice_api import names
from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, WindowLimit
from agentservice_api.budget.books import LATE_SETTLEMENTS, Posting, post, roll
from agentservice_operator.ledger import (
    KEPT_BEYOND_WINDOWS,
    Account,
    Adjust,
    Create,
    Delete,
    Lost,
    Rest,
    Situation,
    Step,
    Write,
    account,
    is_pod,
    next_step,
    pod_uid,
)
from agentservice_operator.observe import trim_ledger

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
SPEC = LedgerSpec(windows=(WindowLimit(name="daily", tokens=1000), WindowLimit(name="monthly", tokens=20_000)))
LABELS = {names.LABEL_NAME: "support"}
POD = "0c1d/k3v9"


def stored(spec: LedgerSpec = SPEC, status: LedgerStatus | None = None, **metadata: Any) -> dict[str, Any]:
    live = {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentLedger",
        "metadata": {
            "name": "support",
            "namespace": "team-a",
            "uid": "1",
            "resourceVersion": "7",
            "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": LABELS,
            **metadata,
        },
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    if status is not None:
        live["status"] = status.model_dump(mode="json", by_alias=True)
    return trim_ledger(live)


def ledger(spec: LedgerSpec = SPEC, status: LedgerStatus | None = None, **metadata: Any) -> Account:
    return account(stored(spec, status, **metadata))


def accounts(*, held: int = 0, spent: int = 0, now: datetime = NOON) -> LedgerStatus:
    status = roll(LedgerStatus(seeded=True), SPEC, now=now)
    keys = [window.key for window in status.windows]
    taken = [Posting(key=key, need=Amount(held + spent, 0), want=Amount(held + spent, 0)) for key in keys]
    status, _ = post(status, SPEC, POD, taken)
    from agentservice_api.budget import ModelSpend

    settled = [Posting(key=key, spent=(ModelSpend(name="m", tokens=spent),)) for key in keys]
    status, _ = post(status, SPEC, POD, settled)
    return status


def step(live: Account | None, **situation: Any) -> Step:
    given: dict[str, Any] = {
        "name": "support",
        "wanted": SPEC,
        "has_service": True,
        "labels": LABELS,
        "now": NOON,
        **situation,
    }
    return next_step(Situation(live=live, **given))


def write(live: Account, **situation: Any) -> Write:
    done = step(live, **situation)
    assert isinstance(done, Write), done
    return done


def day(status: LedgerStatus) -> Any:
    return status.current("daily")


def test_without_a_budget_there_is_no_ledger() -> None:
    assert step(None, wanted=None) == Rest()


def test_a_budget_creates_its_ledger_and_then_seeds_it_with_empty_windows() -> None:
    assert step(None) == Create(spec=SPEC)
    seeding = write(ledger())
    assert seeding.after.seeded
    assert [window.name for window in seeding.after.windows] == ["daily", "monthly"]
    assert day(seeding.after).authorized == Amount()
    assert seeding.announcements == ()


def test_a_seeded_ledger_that_says_what_is_wanted_rests() -> None:
    assert step(ledger(status=accounts(spent=10))) == Rest()


def test_a_new_limit_is_patched_as_a_whole_list_and_touches_no_account() -> None:
    raised = SPEC.model_copy(update={"windows": (WindowLimit(name="daily", tokens=5000),)})
    assert step(ledger(status=accounts()), wanted=raised) == Adjust(
        patch={"spec": {"windows": [{"name": "daily", "tokens": 5000}]}}
    )


def test_parents_are_left_to_whoever_wrote_them() -> None:
    assert step(ledger(SPEC.model_copy(update={"parents": ("team-a",)}), accounts())) == Rest()


def test_labels_that_were_taken_away_come_back() -> None:
    bare = ledger(status=accounts(), labels={"a": "b"})
    assert step(bare) == Adjust(patch={"metadata": {"labels": LABELS}})


def test_a_budget_that_was_removed_leaves_limits_and_accounts_as_they_are() -> None:
    assert step(ledger(status=accounts(spent=900)), wanted=None) == Rest()


def test_a_deleted_ledger_is_created_again_and_restored_with_its_last_accounts() -> None:
    lost = Lost(account=ledger(status=accounts(spent=700, held=100)), is_last=True)
    assert step(None, lost=lost, existed=True) == Create(spec=SPEC)
    restoring = write(ledger(), lost=lost, existed=True)
    assert restoring.after == lost.account.whole
    assert [announcement.reason for announcement in restoring.announcements] == ["LedgerRestored"]


def test_a_ledger_that_vanished_unseen_is_presumed_spent_beyond_what_was_seen() -> None:
    lost = Lost(account=ledger(status=accounts(spent=700, held=100)), is_last=False)
    after = write(ledger(), lost=lost, existed=True).after
    assert day(after).settled == Amount(700, 0)
    assert day(after).presumed == Amount(300, 0)
    assert day(after).authorized == Amount(1000, 0)
    assert after.holders == ()


def test_a_ledger_of_which_nothing_was_seen_but_that_existed_is_presumed_spent_until_the_windows_end() -> None:
    seeding = write(ledger(), existed=True)
    assert day(seeding.after).presumed == Amount(1000, 0)
    assert {announcement.reason for announcement in seeding.announcements} == {"LedgerPresumed"}
    assert "annotate agentledger support agentservice.dev/forgive-presumed=daily" in seeding.announcements[0].note
    tomorrow = roll(seeding.after, SPEC, now=MIDNIGHT)
    assert day(tomorrow).presumed == Amount()


def test_accounts_whose_mark_was_taken_away_are_trusted_again_as_they_stand() -> None:
    unmarked = accounts(spent=700).model_copy(update={"seeded": False})
    seeding = write(ledger(status=unmarked), existed=True)
    assert seeding.patch == {"seeded": True}


def test_what_the_holders_held_whose_pods_are_gone_is_presumed_spent() -> None:
    tidy = write(ledger(status=accounts(spent=100, held=50)), gone=lambda holder: holder == POD)
    assert day(tidy.after).presumed == Amount(50, 0)
    assert tidy.after.holders == ()
    assert set(tidy.patch) == {"windows", "holders"}


def test_a_holder_whose_pod_lives_is_left_alone() -> None:
    assert step(ledger(status=accounts(held=50))) == Rest()


def test_a_window_that_is_over_waits_for_late_settlements_and_is_then_closed() -> None:
    both = roll(accounts(spent=100, held=50), SPEC, now=MIDNIGHT)
    before = step(ledger(status=both), now=MIDNIGHT)
    assert before == Rest(until=MIDNIGHT + LATE_SETTLEMENTS)
    closing = write(ledger(status=both), now=MIDNIGHT + LATE_SETTLEMENTS)
    (book,) = closing.after.closed
    assert (book.name, book.tokens, book.presumed_tokens) == ("daily", 100, 50)


def test_closing_a_window_keeps_the_books_that_are_there() -> None:
    once = roll(accounts(spent=100), SPEC, now=MIDNIGHT)
    closed = write(ledger(status=once), now=MIDNIGHT + LATE_SETTLEMENTS).after
    twice = roll(closed, SPEC, now=MIDNIGHT + timedelta(days=1))
    again = write(ledger(status=twice), now=MIDNIGHT + timedelta(days=1) + LATE_SETTLEMENTS).after
    assert [book.tokens for book in again.closed] == [100, 0]


def test_the_ledger_of_an_agent_that_is_gone_is_kept_until_62_days_after_its_last_window() -> None:
    orphan = {"wanted": None, "has_service": False}
    live = ledger(status=accounts(spent=100))
    end = datetime(2026, 12, 1, tzinfo=UTC)
    assert step(live, **orphan) == Rest(until=end + KEPT_BEYOND_WINDOWS)
    assert step(live, **orphan, now=end + KEPT_BEYOND_WINDOWS) == Delete()
    assert step(live, now=end + KEPT_BEYOND_WINDOWS) == Rest()


def test_a_request_to_forgive_gives_back_what_was_presumed_once_and_is_then_recorded_as_done() -> None:
    presumed = write(ledger(), existed=True).after
    asking = {names.ANNOTATION_FORGIVE: "daily"}
    forgiving = write(ledger(status=presumed, annotations=asking))
    assert day(forgiving.after).presumed == Amount()
    assert forgiving.after.current("monthly") == presumed.current("monthly")
    (note,) = forgiving.announcements
    assert note.reason == "PresumedForgiven"
    assert "1000 tokens" in note.note
    done = step(ledger(status=forgiving.after, annotations=asking))
    assert done == Adjust(
        patch={
            "metadata": {
                "annotations": {
                    names.ANNOTATION_FORGIVE: None,
                    names.ANNOTATION_FORGIVEN: "daily at 2026-11-23T12:00:00Z",
                }
            }
        }
    )


def test_why_something_is_forgiven_is_told_and_kept() -> None:
    presumed = write(ledger(), existed=True).after
    asking = {
        names.ANNOTATION_FORGIVE: "daily",
        names.ANNOTATION_FORGIVE_REASON: "the provider's bill\nsays so " + 300 * "x",
    }
    forgiving = write(ledger(status=presumed, annotations=asking))
    (note,) = forgiving.announcements
    assert "asked for it: the provider's bill says so x" in note.note
    assert len(note.note) < 1024
    done = step(ledger(status=forgiving.after, annotations=asking))
    assert isinstance(done, Adjust)
    record = done.patch["metadata"]["annotations"]
    assert record[names.ANNOTATION_FORGIVE_REASON] is None
    assert record[names.ANNOTATION_FORGIVEN].startswith(
        "daily at 2026-11-23T12:00:00Z: the provider's bill says so xxx"
    )
    assert len(record[names.ANNOTATION_FORGIVEN]) < 240


def test_a_window_can_be_named_by_its_start() -> None:
    presumed = write(ledger(), existed=True).after
    asking = {names.ANNOTATION_FORGIVE: "2026-11-01T00:00:00Z"}
    forgiving = write(ledger(status=presumed, annotations=asking))
    assert forgiving.after.current("monthly").presumed == Amount()  # type: ignore[union-attr]
    assert day(forgiving.after).presumed == Amount(1000, 0)


def test_a_request_for_no_window_is_refused_in_words_that_mend() -> None:
    done = step(ledger(status=accounts(), annotations={names.ANNOTATION_FORGIVE: "weekly"}))
    assert isinstance(done, Adjust)
    said = done.patch["metadata"]["annotations"][names.ANNOTATION_FORGIVEN]
    assert said.endswith("there is no such window, write daily, monthly or a window's start")


def test_a_changed_time_zone_leaves_the_windows_that_have_begun() -> None:
    tokyo = SPEC.model_copy(update={"time_zone": "Asia/Tokyo"})
    live = ledger(status=accounts(spent=900))
    assert step(live, wanted=tokyo) == Adjust(patch={"spec": {"timeZone": "Asia/Tokyo"}})
    assert step(replace(live, spec=tokyo), wanted=tokyo) == Rest()


def test_a_holder_is_a_pod_unless_it_is_a_redis() -> None:
    assert is_pod(POD)
    assert pod_uid(POD) == "0c1d"
    assert not is_pod("redis-1f0c9a2b/abc-def")
