"""What the plan says of two versions of an object, without a cluster."""

import json
from typing import Any

from agentservice_api.names import ANNOTATION_INTENT
from agentservice_cli.cluster.differences import diff, essence, paths
from agentservice_cli.cluster.merging import apply_merge_patch, merge_patch
from agentservice_cli.cluster.plan import Action, AgentPlan, Change, replacement
from agentservice_cli.cluster.planview import show


def test_what_the_server_and_bookkeeping_add_is_no_difference() -> None:
    ours: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"x": 1}}
    live = {
        "metadata": {
            "name": "a",
            "uid": "u",
            "resourceVersion": "7",
            "generation": 2,
            "creationTimestamp": "now",
            "managedFields": [{}],
            "annotations": {ANNOTATION_INTENT: "x", "deployment.kubernetes.io/revision": "3"},
        },
        "spec": {"x": 1},
        "status": {"y": 2},
    }
    assert essence(live) == ours
    assert diff(essence(live), essence(ours)) == ()
    assert "uid" in live["metadata"], "what was read is not changed"


def test_a_configuration_is_compared_line_by_line_not_as_one_long_text() -> None:
    def config_map(model: str) -> dict[str, Any]:
        return {"kind": "ConfigMap", "data": {"config.json": json.dumps({"model": {"name": model}, "name": "x"})}}

    lines = diff(config_map("test"), config_map("openai-chat:x"))
    assert [line.strip() for line in lines if line[0] in "+-"] == ["-      name: test", "+      name: openai-chat:x"]


def test_an_apply_keeps_what_the_file_does_not_say_of_metadata_and_a_scaled_replica_count() -> None:
    live = {
        "metadata": {"name": "a", "resourceVersion": "7", "labels": {"theirs": "1", "both": "old"}},
        "spec": {"replicas": 5, "gone": True},
    }
    wanted = {"metadata": {"name": "a", "labels": {"both": "new"}}, "spec": {"kept": True}}
    found = replacement(live, wanted)
    assert found["metadata"] == {"name": "a", "resourceVersion": "7", "labels": {"theirs": "1", "both": "new"}}
    assert found["spec"] == {"kept": True, "replicas": 5}
    assert replacement(live, {**wanted, "spec": {"replicas": 2}})["spec"] == {"replicas": 2}


def test_a_plan_differs_when_anything_would_happen() -> None:
    same = Change("Service", "a", Action.UNCHANGED)
    assert not AgentPlan("ns", "a", (same,)).differs
    for action in (Action.CREATED, Action.CHANGED, Action.PRUNED, Action.BLOCKED):
        assert AgentPlan("ns", "a", (same, Change("Deployment", "a", action))).differs


def test_a_plan_is_shown_with_a_sign_for_each_object_and_counted(capsys: Any) -> None:
    changes = (
        Change("Service", "a", Action.UNCHANGED),
        Change("Deployment", "a", Action.CHANGED, ("@@ -1 +1 @@", "-x: 1", "+x: 2")),
        Change("ConfigMap", "a-1", Action.CREATED, note="new"),
        Change("ServiceAccount", "a", Action.PRUNED),
    )
    show(AgentPlan("ns", "a", changes))
    assert capsys.readouterr().out.splitlines() == [
        "ns/a",
        "= Service a",
        "~ Deployment a",
        "    @@ -1 +1 @@",
        "    -x: 1",
        "    +x: 2",
        "+ ConfigMap a-1  (new)",
        "- ServiceAccount a",
        "plan: 1 created, 1 changed, 1 pruned, 1 unchanged",
    ]


def test_a_merge_patch_turns_the_one_into_the_other() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
        ({"a": [1]}, {"a": [1, 2], "b": {"c": {"d": 1}}}),
        ({"a": {"b": 1}}, {"a": 5}),
        ({"a": 5}, {"a": {"b": 1}}),
    ]
    for old, new in cases:
        assert apply_merge_patch(old, merge_patch(old, new)) == new
        assert merge_patch(new, new) == {}


def test_the_places_where_two_objects_differ_are_named() -> None:
    assert list(paths({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 2, "c": [1, 3]}, "d": 1})) == ["a.b", "a.c[1]", "d"]
