"""What befalls a ledger in the shortest stories that show each fault: of those broken on purpose, and of our own that were found.

Chance finds these faults, but not each time; told from here they show on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agentservice_api.budget import Amount

from .machine import LedgerMachine, SlicesMachine, Wish, terms

Story = Callable[[Any], Iterator[None]]
"""Has one thing after another befall the machine that it is given."""


def tell(story: Story, machine_type: type[LedgerMachine]) -> None:
    """Have ``story`` befall a new ledger, which comes to rest after it. Raises AssertionError where something does not hold."""
    machine = machine_type()
    try:
        for _ in story(machine):
            machine.nothing_is_overspent_and_all_is_in_the_books()
    except BaseException:
        machine.failed = True  # as it is; it cannot come to rest
        raise
    finally:
        machine.teardown()


def wish(tokens: int, *, of: int = 0, nano_usd: int = 0, after: float = 0.0, settles: int | None = None) -> Wish:
    """Return a request of process ``of`` that takes nothing less, and runs on unless it settles at a percentage."""
    bound = Amount(tokens, nano_usd)
    return Wish(process=of, bound=bound, minimum=bound, after=after, settles=settles)


DAY_OF_100 = terms(100, None, None)
DAY_OF_1000 = terms(1000, None, None)


# --- of ledgers that are broken on purpose


def two_reserve_at_once(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=2)
    yield m.processes_reserve_at_once(wishes=[wish(1, of=0), wish(1, of=1), wish(99, of=0), wish(99, of=1)])


def one_settles(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(50, settles=50)])
    yield m.all_comes_to_rest()


def one_is_killed_in_mid_request(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=2)
    yield m.processes_reserve_at_once(wishes=[wish(50)])
    yield m.a_process_is_killed(which=0, part=100, restarts=False)
    yield m.the_dead_are_counted()


def one_runs_on_and_is_counted_dead(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(50)])
    yield m.the_dead_are_counted()


def a_limit_is_raised(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=terms(0, None, None), processes=1)
    yield m.limits_move(spec=DAY_OF_100)
    yield m.all_comes_to_rest()


def a_limit_falls_below_what_is_in_hand(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=terms(None, None, None), processes=1)
    yield m.limits_move_under_load(first=wish(2), second=wish(101), spec=DAY_OF_100)


def the_other_limit_falls_to_nothing(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.limits_move_under_load(first=wish(1), second=wish(1), spec=terms(100, None, 0))


def the_limit_in_dollars_is_the_narrower(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=terms(100, 0, None), processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(1, nano_usd=1)])


def a_day_ends_in_mid_request(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(50)])
    yield m.a_window_ends(days=1)
    yield m.all_comes_to_rest()


def a_day_ends_with_some_in_hand(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.all_comes_to_rest()
    yield m.a_window_ends_under_load(first=wish(10), second=wish(10))


def one_has_not_heard_of_the_other(m: SlicesMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=2)
    yield m.all_comes_to_rest()
    yield m.a_watch_lags(which=1)
    yield m.processes_reserve_at_once(wishes=[wish(50, of=0)])
    yield m.processes_reserve_at_once(wishes=[wish(50, of=1)])


def one_takes_what_another_has(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(1)])
    yield m.processes_reserve_at_once(wishes=[wish(50)])


def one_is_thought_gone(m: SlicesMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(50)])
    yield m.a_living_pod_is_thought_gone(which=0)


def one_ends_in_the_middle_of_a_write(m: LedgerMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_100, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(1)])
    yield m.limits_move(spec=terms(100, None, 0))
    yield m.a_process_ends_in_order(which=0)


# --- of our own


def one_thought_gone_is_billed_when_its_day_is_over(m: SlicesMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_1000, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(100)])
    yield m.a_living_pod_is_thought_gone(which=0)
    yield m.a_window_ends(days=1)
    yield m.processes_reserve_at_once(wishes=[wish(10, settles=100)])
    yield m.the_provider_bills_beyond_what_it_was_told(which=0, beyond=Amount(50, 0))
    yield m.all_comes_to_rest()


def some_of_yesterday_is_kept_for_those_who_wait(m: SlicesMachine) -> Iterator[None]:
    yield m.begin(spec=terms(200, None, None), processes=1)
    yield m.all_comes_to_rest()
    yield m.processes_reserve_at_once(wishes=[wish(1)])
    yield m.a_window_ends_under_load(first=wish(1), second=wish(1))
    yield m.processes_reserve_at_once(wishes=[wish(1, settles=100), wish(1)])
    yield m.all_comes_to_rest()


def the_server_turns_out_to_be_ahead(m: SlicesMachine) -> Iterator[None]:
    yield m.begin(spec=DAY_OF_1000, processes=1)
    yield m.processes_reserve_at_once(wishes=[wish(5, settles=100)])
    yield m.the_clock_is_set(seconds=1300.0)
    yield m.a_watch_ends(which=0)
    yield m.time_passes(seconds=0.5)
    yield m.processes_reserve_at_once(wishes=[wish(1)])


OF_OUR_OWN: Mapping[str, Story] = {
    story.__name__: story
    for story in (
        one_thought_gone_is_billed_when_its_day_is_over,
        some_of_yesterday_is_kept_for_those_who_wait,
        the_server_turns_out_to_be_ahead,
    )
}
"""Each has shown a fault once."""
