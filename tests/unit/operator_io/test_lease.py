"""Who leads, with clocks that are wrong and a server that loses answers. The real API server: tests/apiserver."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from agentservice_operator.kube.lease import Decision, Elector, LeadershipLost, Observation, Timing, decide, observe

WALL = datetime(2026, 1, 1, tzinfo=UTC)


def lease(holder: str, *, version: str = "1", duration: int = 15) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration, "renewTime": "1999-01-01T00:00:00.000000Z"}
    return {"metadata": {"uid": "u", "resourceVersion": version}, "spec": spec}


@pytest.mark.parametrize(
    ("held", "now", "decision"),
    [
        (None, 0, Decision.CREATE),
        (lease("me"), 1000, Decision.RENEW),
        (lease("other"), 14.9, Decision.WAIT),
        (lease("other"), 15, Decision.TAKE),
        (lease("other", duration=40), 39, Decision.WAIT),
        (lease(""), 0, Decision.TAKE),
    ],
)
def test_only_what_has_not_changed_for_its_duration_is_taken(held: Any, now: float, decision: Decision) -> None:
    assert decide(Observation(lease=held, since=0), me="me", now=now) is decision


def test_a_record_that_changes_is_alive_however_old_its_renew_time_looks() -> None:
    seen = observe(None, lease("other", version="1"), now=0)
    seen = observe(seen, lease("other", version="2"), now=14)
    assert decide(seen, me="me", now=20) is Decision.WAIT
    assert observe(seen, lease("other", version="2"), now=28).since == 14


def test_next_leads_who_saw_the_last_renewal_first_be_it_the_dead_leaders_own_container_started_again() -> None:
    old, last = lease("one_a", version="1"), lease("one_a", version="2")
    standby = observe(observe(None, old, now=-0.1), last, now=2.1)
    started_again = observe(None, last, now=1.5)
    assert decide(started_again, me="one_b", now=16.5) is Decision.TAKE
    assert decide(standby, me="two", now=16.5) is Decision.WAIT


def test_a_timing_in_which_two_could_lead_is_refused() -> None:
    with pytest.raises(ValueError, match="renew_deadline < duration"):
        Timing(duration=10, renew_deadline=15, retry=2)


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def candidate(client: Any, clock: Clock, identity: str) -> Elector:
    return Elector(
        client=client,
        namespace="ns",
        name="leader",
        identity=identity,
        clock=clock,
        wall=lambda: WALL,
        random=lambda: 0.0,
        sleep=clock.sleep,
    )


async def test_the_first_candidate_makes_the_lease_and_leads(api: Any, make_client: Any) -> None:
    elector = candidate(make_client(), Clock(), "one")
    with pytest.raises(LeadershipLost):
        elector.guard()
    await elector.acquire()
    elector.guard()
    spec = api.objects["leases", "ns", "leader"]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("one", 0, 15)


async def test_a_dead_leader_is_followed_after_the_duration_by_our_own_clock(api: Any, make_client: Any) -> None:
    clock = Clock()
    await candidate(make_client(), clock, "one").acquire()
    second, began = candidate(make_client(), clock, "two"), clock.now
    await second.acquire()
    assert clock.now - began == pytest.approx(15)  # not at the look after that
    spec = api.objects["leases", "ns", "leader"]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)


async def test_a_released_lease_is_taken_at_once(api: Any, make_client: Any) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    await first.release()
    assert not first.leading
    began = clock.now
    await candidate(make_client(), clock, "two").acquire()
    assert clock.now == began


async def test_a_leader_whose_lease_was_taken_learns_it_at_the_next_renewal(api: Any, make_client: Any) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    api.put("leases", "leader", spec={"holderIdentity": "two", "leaseDurationSeconds": 15})
    with pytest.raises(LeadershipLost, match="held by two"):
        await asyncio.wait_for(first.hold(), 5)
    assert not first.leading


async def test_a_leader_that_cannot_renew_ends_before_anybody_else_may_begin(
    api: Any, make_client: Any, fault: Any
) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    began = clock.now
    api.faults.append(fault("*", "leases", 500, times=10**6))
    with pytest.raises(LeadershipLost, match="within 10 s"):
        await asyncio.wait_for(first.hold(), 5)
    assert 10 <= clock.now - began < 15


async def test_a_process_that_was_frozen_is_fenced_before_its_next_write(make_client: Any) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    clock.now += 10
    with pytest.raises(LeadershipLost):
        first.guard()


async def test_a_renewal_whose_answer_was_lost_is_recognised(api: Any, make_client: Any, fault: Any) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    before = api.objects["leases", "ns", "leader"]["metadata"]["resourceVersion"]
    api.faults.append(fault("update", "leases", "lost"))
    holding = asyncio.create_task(first.hold())
    for _ in range(2000):
        await asyncio.sleep(0.001)
        if api.count("update", "leases") >= 4:
            break
    assert not holding.done()
    assert first.leading
    assert api.objects["leases", "ns", "leader"]["metadata"]["resourceVersion"] != before
    holding.cancel()


async def test_a_lease_that_somebody_deletes_is_made_again_by_its_holder(api: Any, make_client: Any) -> None:
    clock = Clock()
    first = candidate(make_client(), clock, "one")
    await first.acquire()
    api.remove("leases", "leader")
    holding = asyncio.create_task(first.hold())
    for _ in range(2000):
        await asyncio.sleep(0.001)
        if ("leases", "ns", "leader") in api.objects:
            break
    assert api.objects["leases", "ns", "leader"]["spec"]["holderIdentity"] == "one"
    assert first.leading
    holding.cancel()


async def test_of_two_that_begin_together_one_leads(api: Any, make_client: Any) -> None:
    clock = Clock()
    both = [candidate(make_client(), clock, name) for name in ("one", "two")]
    tasks = [asyncio.create_task(elector._try(timeout=5)) for elector in both]
    assert sorted(await asyncio.gather(*tasks)) == [False, True]


async def test_a_missing_permission_is_named_once(
    api: Any, make_client: Any, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    api.faults.append(fault("get", "leases", 403, times=5))
    with caplog.at_level(logging.WARNING):
        await candidate(make_client(), Clock(), "one").acquire()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert 'grant the verbs "get", "create" and "update" on leases' in said[0]


async def test_releasing_never_fails_and_leaves_somebody_elses_lease_alone(
    api: Any, make_client: Any, fault: Any
) -> None:
    clock = Clock()
    first, second = candidate(make_client(), clock, "one"), candidate(make_client(), clock, "two")
    await second.release()
    await first.acquire()
    api.faults.append(fault("update", "leases", 500))
    await first.release()
    await second.acquire()
    await first.release()
    assert api.objects["leases", "ns", "leader"]["spec"]["holderIdentity"] == "two"
