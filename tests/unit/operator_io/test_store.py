"""Statements about objects race; the store keeps the latest."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentservice_operator.kube.store import ObjectStore
from agentservice_operator.manifest import Key


def thing(version: int, *, name: str = "a", uid: str = "u1", **content: Any) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": metadata, **content}


def version(store: ObjectStore) -> str | None:
    found = store.get("ns", "a")
    return found["metadata"]["resourceVersion"] if found else None


@given(st.permutations([1, 2, 3, 4, 5]))
def test_in_whatever_order_versions_arrive_the_latest_stays(order: list[int]) -> None:
    store = ObjectStore()
    for number in order:
        store.put(thing(number))
    assert version(store) == "5"


def test_what_a_write_answered_is_known_at_once_and_wakes_nobody() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=lambda old, new: told.append((old, new)))
    store.remember(thing(7))
    store.put(thing(7))
    store.put(thing(6))
    assert version(store) == "7"
    assert told == []
    store.put(thing(8, colour="red"))
    assert len(told) == 1


def test_an_answer_that_comes_after_the_deletion_brings_nothing_back() -> None:
    store = ObjectStore()
    store.put(thing(1))
    store.bury(thing(3))
    store.remember(thing(2))
    store.put(thing(2))
    assert version(store) is None
    store.put(thing(4, uid="u2"))
    assert version(store) == "4"


def test_what_left_the_selection_and_came_back_is_known_again() -> None:
    """A label edited away is told as a deletion; the same object, healed, comes back with a later version."""
    store = ObjectStore()
    store.put(thing(1))
    store.bury(thing(2))
    store.remember(thing(3))
    assert version(store) == "3"
    store.bury(thing(2))
    assert version(store) == "3"


def test_the_late_deletion_of_a_predecessor_leaves_the_namesake() -> None:
    store = ObjectStore()
    store.put(thing(1))
    store.put(thing(5, uid="u2"))
    store.bury(thing(4))
    assert version(store) == "5"


def test_a_namesake_is_told_as_a_deletion_and_an_addition() -> None:
    told: list[tuple[Any, Any]] = []
    store = ObjectStore(
        on_change=lambda old, new: told.append((old and old["metadata"]["uid"], new and new["metadata"]["uid"]))
    )
    store.put(thing(1))
    store.put(thing(5, uid="u2"))
    assert told == [(None, "u1"), ("u1", None), (None, "u2")]


def test_pruning_spares_what_was_made_after_the_list_and_other_namespaces() -> None:
    store = ObjectStore()
    store.put(thing(1, name="old"))
    store.put(thing(20, name="new"))
    store.put(thing(1, name="kept"))
    store.put({"metadata": {"namespace": "other", "name": "x", "uid": "u9", "resourceVersion": "1"}})
    store.prune(seen={Key("ns", "kept")}, version="10", namespace="ns")
    assert set(store.keys()) == {Key("ns", "new"), Key("ns", "kept"), Key("other", "x")}


def test_an_index_follows_changes() -> None:
    store = ObjectStore(indexes={"colour": lambda content: content.get("colours", ())})
    store.put(thing(1, colours=("red", "blue")))
    store.put(thing(1, name="b", uid="u2", colours=("red",)))
    store.put(thing(2, colours=("blue",)))
    assert [found["metadata"]["name"] for found in store.by_index("colour", "red")] == ["b"]
    assert [found["metadata"]["name"] for found in store.by_index("colour", "blue")] == ["a"]
    store.bury(thing(3))
    assert store.by_index("colour", "blue") == []


def test_only_what_the_trim_leaves_is_stored() -> None:
    store = ObjectStore(trim=lambda content: {"metadata": content["metadata"]})
    store.put(thing(1, data={"x": "y"}))
    assert store.get("ns", "a") == thing(1)


def versions(told: list[Any]) -> Any:
    def tell(old: Any, new: Any) -> None:
        told.append(tuple(content and content["metadata"]["resourceVersion"] for content in (old, new)))

    return tell


def test_a_new_resource_version_alone_is_no_change_unless_versions_count() -> None:
    for by_version, expected in ((False, []), (True, [("1", "2")])):
        told: list[Any] = []
        store = ObjectStore(on_change=versions(told), by_version=by_version)
        store.remember(thing(1, spec={"a": 1, "b": [{"x": 1, "y": 2}]}))
        store.put(
            {"spec": {"b": [{"y": 2, "x": 1}], "a": 1}, **thing(2)}
        )  # a list orders members otherwise than a watch
        assert told == expected
        assert version(store) == "2"


def test_the_watchs_event_of_our_own_write_wakes_nobody_though_it_comes_before_the_answer() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    with store.writing("ns", "a") as answered:
        store.put(thing(1))
        store.put(thing(2, spec="ours"))
        answered(thing(2, spec="ours"))
    store.put(thing(2, spec="ours"))
    assert told == []


def test_what_somebody_else_writes_during_our_write_is_told_after_it() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    store.put(thing(1))
    told.clear()
    with store.writing("ns", "a") as answered:
        store.put(thing(3, spec="theirs"))
        answered(thing(2, spec="ours"))
        assert told == []
    assert told == [("1", "3")]


def test_a_write_without_an_answer_hides_nothing() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    store.put(thing(1))
    told.clear()
    try:
        with store.writing("ns", "a"):
            store.put(thing(2, spec="x"))
            store.bury(thing(3))
            raise TimeoutError
    except TimeoutError:
        pass
    assert told == [("1", None)]
    with store.writing("ns", "a"):
        pass
    assert told == [("1", None)]


def test_who_has_to_see_every_state_sees_it_during_our_write_too() -> None:
    seen: list[Any] = []
    store = ObjectStore(on_seen=versions(seen))
    store.put(thing(1))
    with store.writing("ns", "a") as answered:
        store.put(thing(2, spec="theirs"))
        store.bury(thing(3))
        answered(thing(2, spec="theirs"))
    assert seen == [(None, "1"), ("1", "2"), ("2", None)]


def test_a_large_object_comes_back_as_it_was_and_its_equal_is_no_change() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    text = "Grüße " * 2000
    store.remember(thing(1, spec={"text": text}))
    store.put(thing(2, spec={"text": text}))
    assert store.get("ns", "a") == thing(2, spec={"text": text})
    assert told == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.sampled_from(["red", "blue"]))), max_size=12))
def test_an_index_finds_what_a_look_at_every_object_would_find(changes: list[tuple[str, set[str]]]) -> None:
    store = ObjectStore(indexes={"colour": lambda content: content["colours"]})
    colours: dict[str, set[str]] = {}
    for number, (name, chosen) in enumerate(changes):
        colours[name] = chosen
        store.put(thing(number + 1, name=name, uid=name, colours=sorted(chosen)))
    for colour in ("red", "blue"):
        found = [content["metadata"]["name"] for content in store.by_index("colour", colour)]
        assert found == sorted(name for name, chosen in colours.items() if colour in chosen)


def test_what_came_and_went_while_we_made_it_is_told_as_gone() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    with store.writing("ns", "a") as answered:
        store.put(thing(1))
        store.bury(thing(2))
        answered(thing(1))
    assert told == [("1", None)]


def test_what_was_made_and_deleted_between_two_lists_is_told_as_gone_and_not_believed() -> None:
    told: list[Any] = []
    store = ObjectStore(on_change=versions(told))
    with store.writing("ns", "a") as answered:
        store.prune(seen=set(), version="9", namespace="")
        answered(thing(8))
    assert version(store) is None
    assert told == [("8", None)]
    with store.writing("ns", "a") as answered:
        answered(thing(10, uid="u2"))
    assert version(store) == "10"
    assert told == [("8", None)]
