"""Reading from managedFields whether a child still is what we applied."""

from __future__ import annotations

from typing import Any

import pytest

from agentservice_operator.ownership import foreign_items, owns_all, set_although_ours_is_empty

MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x", "namespace": "n", "labels": {"a": "1"}},
    "spec": {
        "paused": False,
        "replicas": 2,
        "selector": {"matchLabels": {"a": "1"}},
        "template": {
            "spec": {"containers": [{"name": "agent", "env": [{"name": "A", "value": "1"}], "command": ["run"]}]}
        },
    },
}


def fields() -> dict[str, Any]:
    env = {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}
    container = {".": {}, "f:name": {}, "f:env": {".": {}, **env}, "f:command": {}}
    return {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"agent"}': container}}},
        },
    }


def live(*entries: dict[str, Any], **content: Any) -> dict[str, Any]:
    return {**MANIFEST, **content, "metadata": {**MANIFEST["metadata"], "managedFields": list(entries)}}


def entry(owned: dict[str, Any], *, manager: str = "us", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Apply", "fieldsV1": owned, **more}


def test_what_we_applied_and_nobody_touched_is_ours() -> None:
    assert owns_all(live(entry(fields())), MANIFEST, "us")


def test_without_an_entry_nothing_is_ours() -> None:
    assert not owns_all(live(entry(fields(), manager="kubectl")), MANIFEST, "us")


def test_an_entry_for_a_subresource_does_not_count() -> None:
    assert not owns_all(live(entry(fields(), subresource="scale")), MANIFEST, "us")


def test_two_entries_together_may_own_all() -> None:
    first, second = fields(), fields()
    del first["f:spec"]["f:replicas"]
    del second["f:metadata"]
    assert owns_all(live(entry(first), entry(second)), MANIFEST, "us")


@pytest.mark.parametrize(
    "path", [("f:metadata", "f:labels", "f:a"), ("f:spec", "f:replicas"), ("f:spec", "f:selector")]
)
def test_a_field_that_somebody_took_is_missed(path: tuple[str, ...]) -> None:
    owned = fields()
    node = owned
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    assert not owns_all(live(entry(owned)), MANIFEST, "us")


def test_a_changed_value_inside_a_keyed_list_is_missed() -> None:
    owned = fields()
    containers = owned["f:spec"]["f:template"]["f:spec"]["f:containers"]
    del containers['k:{"name":"agent"}']["f:env"]['k:{"name":"A"}']["f:value"]
    assert not owns_all(live(entry(owned)), MANIFEST, "us")


def test_a_map_whose_every_key_somebody_took_is_missed() -> None:
    """Its empty field set looks like that of an atomic map, which is owned as a whole."""
    manifest = {"metadata": {"name": "x"}, "resources": {"limits": {"memory": "512Mi"}}}
    owned = entry({"f:resources": {".": {}, "f:limits": {}}})
    assert owns_all(live(owned, resources={"limits": {"memory": "0.5Gi"}}), manifest, "us")
    assert not owns_all(live(owned, resources={"limits": {"memory": "4Gi"}}), manifest, "us")
    assert not owns_all(live(owned, resources={}), manifest, "us")


def test_defaults_that_the_server_adds_to_an_atomic_list_are_no_drift() -> None:
    source = {"serviceAccountToken": {"path": "token"}}
    theirs = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    manifest = {"metadata": {"name": "x"}, "sources": [source]}
    assert owns_all(live(entry({"f:sources": {}}), sources=[theirs]), manifest, "us")
    assert foreign({"sources": [theirs]}, {"sources": [source]}) == []


def test_false_needs_no_owner_because_the_server_does_not_store_it() -> None:
    assert owns_all(live(entry(fields())), MANIFEST, "us")
    assert set_although_ours_is_empty({"paused": True}, {"paused": False})
    assert not set_although_ours_is_empty({}, {"paused": False})


def test_false_inside_a_keyed_list_is_compared_with_the_same_item() -> None:
    ours = {"containers": [{"name": "agent", "tty": False}]}
    assert set_although_ours_is_empty({"containers": [{"name": "side"}, {"name": "agent", "tty": True}]}, ours)
    assert not set_although_ours_is_empty({"containers": [{"name": "side", "tty": True}, {"name": "agent"}]}, ours)


def test_a_false_that_was_taken_away_is_missed_where_absence_means_true() -> None:
    assert set_although_ours_is_empty({}, {"automountServiceAccountToken": False})


def foreign(theirs: dict[str, Any], ours: dict[str, Any]) -> list[Any]:
    return list(foreign_items({"spec": theirs}, {"spec": ours}))


def test_a_foreign_item_below_reordered_items_is_found() -> None:
    ours = {"containers": [{"name": "a"}, {"name": "b", "env": [{"name": "A"}]}]}
    theirs = {"containers": [{"name": "b", "env": [{"name": "X"}, {"name": "A"}]}, {"name": "a"}]}
    assert foreign(theirs, ours) == [("spec", "containers", 0, "env", 0)]


def test_a_foreign_item_in_a_keyed_list_is_found_with_its_path() -> None:
    ours = {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    theirs = {"ports": [{"name": "http", "port": 81, "protocol": "TCP"}]}
    assert foreign(theirs, ours) == [("spec", "ports", 0)]


def test_a_foreign_container_is_found() -> None:
    ours = {"containers": [{"name": "agent"}]}
    assert foreign({"containers": [{"name": "agent"}, {"name": "side"}]}, ours) == [("spec", "containers", 1)]


def test_defaults_that_the_server_adds_are_not_foreign() -> None:
    ours = {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    theirs = {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080, "targetPort": 80}]}
    assert foreign(theirs, ours) == []
