"""Events say transitions once, and their failure harms nobody."""

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import Any

from agentservice_operator.kube.events import BURST, REFILL_SECONDS, REPEAT_SECONDS, EventType, Filter, Recorder

WALL = datetime(2026, 1, 1, 12, tzinfo=UTC)


def agent(uid: str = "u1") -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": "support", "uid": uid, "resourceVersion": "7"}
    return {"apiVersion": "agentservice.dev/v1alpha1", "kind": "AgentService", "metadata": metadata, "spec": {}}


def recorder(client: Any) -> Recorder:
    words = count()
    return Recorder(
        client=client, instance="pod-1", clock=lambda: 0.0, wall=lambda: WALL, word=lambda: str(next(words))
    )


def say(to: Recorder, note: str = "it is there", *, uid: str = "u1") -> None:
    to.record(agent(uid), event_type=EventType.NORMAL, reason="Created", action="Apply", note=note)


def test_the_same_is_said_once_within_ten_minutes() -> None:
    events = Filter()
    said = [events.passes(uid="u", reason="R", note="n", now=now) for now in (0, 1, REPEAT_SECONDS - 1, REPEAT_SECONDS)]
    assert said == [True, False, False, True]
    assert events.passes(uid="u", reason="R", note="other", now=1)
    assert events.passes(uid="other", reason="R", note="n", now=1)


def test_an_object_that_flaps_gets_a_burst_and_then_a_trickle() -> None:
    events = Filter()
    passed = sum(events.passes(uid="u", reason="R", note=str(number), now=0) for number in range(100))
    assert passed == BURST
    assert events.passes(uid="calm", reason="R", note="n", now=0)
    assert not events.passes(uid="u", reason="R", note="x", now=REFILL_SECONDS - 1)
    assert events.passes(uid="u", reason="R", note="y", now=REFILL_SECONDS)


def test_the_memory_of_events_is_bounded() -> None:
    events = Filter()
    for number in range(6000):
        events.passes(uid=str(number), reason="R", note="n", now=number)
    assert len(events._said) <= 4096
    assert len(events._buckets) <= 4096


async def test_an_event_names_its_object_and_its_reporter(api: Any, make_client: Any) -> None:
    to = recorder(make_client())
    say(to, "é" * 2000)
    await to.flush()
    (posted,) = api.objects.values()
    assert posted["regarding"]["name"] == "support"
    assert posted["reportingController"] == "agentservice.dev/operator"
    assert (posted["type"], posted["reason"], posted["action"]) == ("Normal", "Created", "Apply")
    assert posted["eventTime"] == "2026-01-01T12:00:00.000000Z"
    assert len(posted["note"].encode()) <= 1024


async def test_neither_a_refusal_nor_an_object_without_identity_is_raised(
    api: Any, make_client: Any, fault: Any
) -> None:
    to = recorder(make_client())
    to.record({"metadata": {}}, event_type=EventType.WARNING, reason="R", action="A", note="n")
    api.faults += [fault("create", "events", 403), fault("create", "events", 500, times=4)]
    say(to, "one")
    say(to, "two")
    say(to, "three")
    await to.flush()
    assert len(api.objects) == 1


async def test_a_full_queue_drops_the_newest(make_client: Any) -> None:
    to = recorder(make_client())
    for number in range(1200):
        say(to, uid=str(number))
    assert to._waiting.qsize() == 1000


async def test_events_are_posted_in_the_background(api: Any, make_client: Any, eventually: Any) -> None:
    to = recorder(make_client())
    task = asyncio.create_task(to.run())
    say(to)
    await eventually(lambda: api.objects)
    task.cancel()
