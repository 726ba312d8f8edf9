"""Which answers still count."""

from __future__ import annotations

import pytest

from agentservice_runtime.cache.purges import ALL, Purges, of_prefix, of_tag

TAGS = frozenset({of_tag("catalog")})


def counts(of: str, **numbers: int) -> bool:
    known = Purges(version="life:9", numbers=numbers)
    return known.counts(of, message="Order 7: where is it?", tags=TAGS)


@pytest.mark.parametrize("purge", [ALL, of_tag("catalog"), of_prefix("Order 7"), of_prefix("Order 7: where is it?")])
def test_an_answer_counts_if_its_run_began_after_the_purge(purge: str) -> None:
    assert counts("life:0")
    assert not counts("life:4", **{purge: 5})
    assert counts("life:5", **{purge: 5})


@pytest.mark.parametrize("purge", [of_tag("eu"), of_prefix("Order 8"), of_prefix("order 7"), of_prefix("Order 7" * 9)])
def test_a_purge_of_something_else_changes_nothing(purge: str) -> None:
    assert counts("life:4", **{purge: 5})


def test_the_latest_of_many_purges_counts() -> None:
    assert not counts("life:6", **{ALL: 3, of_prefix("Order"): 7, of_tag("catalog"): 5})


def test_nothing_of_another_life_of_the_list_counts_for_it_may_have_forgotten_purges() -> None:
    assert not counts("death:9")
    assert not counts("")


def test_what_is_purged_cannot_be_read_in_the_list() -> None:
    assert "canary" not in of_prefix("canary") + of_tag("canary")


def test_a_tag_is_never_taken_for_a_prefix() -> None:
    assert of_tag("all") != ALL
    assert of_prefix("a") != of_tag("a")
