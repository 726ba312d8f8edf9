"""Whose turn it is."""

from agentservice_operator.manifest import Key
from agentservice_operator.turns import Turns


def order(turns: Turns, waiting: set[Key]) -> list[Key]:
    found: list[Key] = []
    while (key := turns.first(waiting.__contains__)) is not None:
        turns.pop()
        waiting.discard(key)
        found.append(key)
    return found


def test_one_agent_of_another_namespace_waits_for_one_of_a_thousand() -> None:
    turns = Turns()
    crowd = [Key("crowd", f"agent-{number}") for number in range(1000)]
    single = Key("team", "agent")
    for key in (*crowd, single):
        turns.push(key)
    assert order(turns, {*crowd, single}).index(single) == 1


def test_the_newest_of_a_namespace_has_every_second_turn_and_the_oldest_the_others() -> None:
    turns = Turns()
    keys = [Key("ns", str(number)) for number in range(6)]
    for key in keys:
        turns.push(key)
    assert [key.name for key in order(turns, set(keys))] == ["0", "5", "1", "4", "2", "3"]


def test_who_waits_no_more_costs_no_turn() -> None:
    turns = Turns()
    keys = [Key("ns", str(number)) for number in range(4)]
    for key in keys:
        turns.push(key)
    assert order(turns, {keys[1], keys[2]}) == [keys[1], keys[2]]
    assert turns.first(lambda _: True) is None
