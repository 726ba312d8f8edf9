"""What is written over and over is written slowly, and only that."""

from agentservice_operator.manifest import Key
from agentservice_operator.pace import BURST, SECONDS_A_WRITE, Paces

AGENT, OTHER = Key("team", "agent"), Key("team", "other")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_writes_needs_no_rest_and_what_follows_has_one() -> None:
    paces = Paces(clock=Clock())
    assert [paces.wrote(AGENT, ["Service agent"]) for _ in range(BURST)] == [0.0] * BURST
    assert paces.wrote(AGENT, ["Service agent"]) == SECONDS_A_WRITE
    assert paces.wrote(AGENT, ["Service agent"]) == 2 * SECONDS_A_WRITE


def test_who_rests_as_long_as_told_writes_one_object_in_so_many_seconds() -> None:
    clock = Clock()
    paces = Paces(clock=clock)
    writes, end = 0, clock.now + 600
    while clock.now < end:
        writes += 1
        clock.now += max(0.02, paces.wrote(AGENT, ["Service agent"]))
    assert writes <= BURST + 600 / SECONDS_A_WRITE + 1


def test_a_busy_object_delays_neither_another_agent_nor_a_write_of_another_object() -> None:
    paces = Paces(clock=Clock())
    for _ in range(BURST + 10):
        paces.wrote(AGENT, ["Service agent"])
    assert paces.wrote(OTHER, ["Service agent"]) == 0.0
    assert paces.wrote(AGENT, ["Deployment agent"]) == 0.0


def test_an_object_that_was_left_in_peace_has_its_burst_again_and_is_forgotten() -> None:
    clock = Clock()
    paces = Paces(clock=clock)
    for _ in range(BURST):
        paces.wrote(AGENT, ["Service agent"])
    clock.now += BURST * SECONDS_A_WRITE
    paces.wrote(OTHER, ["Service other"])
    assert list(paces._full_until) == [(OTHER, "Service other")]
    assert [paces.wrote(AGENT, ["Service agent"]) for _ in range(BURST)] == [0.0] * BURST
