"""What has to be written, and what must never be."""

from __future__ import annotations

from typing import Any

from agentservice_api import names
from agentservice_operator.manifest import ChildKey, Manifest, Owner
from agentservice_operator.plan import Cause, Verb, plan

from .builders import UID, rendered

OWNER = Owner(namespace="team-a", name="support", uid=UID)


def owned_fields(value: Any) -> Any:
    """The fieldsV1 that a real server records for ``value``, keyed lists by what keys them."""
    keys = {"env": ("name",), "containers": ("name",), "volumes": ("name",), "ports": ("containerPort", "protocol"),
            "volumeMounts": ("mountPath",), "ownerReferences": ("uid",), "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable")}  # fmt: skip

    def fields(node: Any, name: str = "") -> Any:
        if isinstance(node, dict):
            return {f"f:{k}": fields(v, k) for k, v in node.items() if v not in (False, "")}
        if isinstance(node, list) and name in keys:
            import json

            key = ("port", "protocol") if name == "ports" and "port" in node[0] else keys[name]
            return {f"k:{json.dumps({k: i[k] for k in key}, separators=(',', ':'))}": fields(i) for i in node}
        return {}

    return fields(value)


def stored(manifest: Manifest, *, operation: str = "Update", **metadata: Any) -> Manifest:
    """``manifest`` as the API server has it after we created it."""
    content = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind")}
    content["metadata"] = {k: v for k, v in content["metadata"].items() if k not in ("name", "namespace")}
    entry = {"manager": names.FIELD_MANAGER, "operation": operation, "fieldsV1": owned_fields(content)}
    return {
        **manifest,
        "metadata": {"uid": "u", "resourceVersion": "7", "managedFields": [entry], **manifest["metadata"], **metadata},
    }


def observed(result: Any) -> dict[ChildKey, Manifest]:
    return {ChildKey(c["kind"], c["metadata"]["name"]): stored(c) for c in result.children}


def verbs(result: Any, live: dict[ChildKey, Manifest], **more: Any) -> dict[str, Verb]:
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=False, **more)
    return {str(change.child): change.verb for change in made.changes}


def test_what_is_missing_is_created() -> None:
    assert set(verbs(rendered(), {}).values()) == {Verb.CREATE}


def test_what_is_as_we_left_it_is_kept_so_that_a_restart_writes_nothing() -> None:
    result = rendered()
    assert set(verbs(result, observed(result)).values()) == {Verb.KEEP}


def test_only_what_changed_is_applied() -> None:
    live = observed(rendered())
    made = plan(owner=OWNER, children=rendered(replicas=3).children, observed=live, adopt=False)
    assert [(c.child.kind, c.cause) for c in made.writes] == [
        ("PodDisruptionBudget", Cause.MISSING),
        ("Deployment", Cause.CHANGED),
    ]


def test_an_edit_by_somebody_else_is_taken_back() -> None:
    result = rendered()
    live = observed(result)
    key = ChildKey("Deployment", "support")
    del live[key]["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicas"]
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=False)
    assert [(c.child, c.cause) for c in made.writes] == [(key, Cause.DRIFTED)]


def test_a_port_number_changed_by_hand_is_taken_over_before_the_apply() -> None:
    result = rendered()
    live = observed(result)
    service = live[ChildKey("Service", "support")]
    service["spec"] = {**service["spec"], "ports": [{**service["spec"]["ports"][0], "port": 81}]}
    (change,) = plan(owner=OWNER, children=result.children, observed=live, adopt=False).writes
    assert change.takes_over


def test_an_item_of_ours_that_we_want_no_more_goes_by_the_apply_alone() -> None:
    live = observed(rendered())
    changed = rendered(network={"service": {"port": 8080}})
    for operation in ("Update", "Apply"):
        service = live[ChildKey("Service", "support")]
        service["metadata"]["managedFields"][0]["operation"] = operation
        (change,) = plan(owner=OWNER, children=changed.children, observed=live, adopt=False).writes
        assert (change.cause, change.takes_over) == (Cause.CHANGED, False)


def test_beside_an_item_of_ours_that_goes_a_strangers_is_taken_over() -> None:
    live = observed(rendered())
    service = live[ChildKey("Service", "support")]
    port = service["spec"]["ports"][0]
    service["spec"] = {**service["spec"], "ports": [port, {**port, "name": "debug", "port": 6060}]}
    changed = rendered(network={"service": {"port": 8080}})
    (change,) = plan(owner=OWNER, children=changed.children, observed=live, adopt=False).writes
    assert change.takes_over


def test_a_rollout_that_somebody_paused_goes_on() -> None:
    result = rendered()
    live = observed(result)
    deployment = live[ChildKey("Deployment", "support")]
    deployment["spec"] = {**deployment["spec"], "paused": True}
    assert verbs(result, live)["Deployment support"] is Verb.APPLY


def test_a_strangers_object_is_refused_and_the_message_says_what_to_do() -> None:
    result = rendered()
    live = observed(result)
    live[ChildKey("Service", "support")]["metadata"] |= {"ownerReferences": [], "annotations": {}}
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=False)
    (refused,) = made.of(Verb.REFUSE)
    assert refused.child.kind == "Service"
    assert 'annotate ags support agentservice.dev/adopt="true"' in refused.message


def test_an_unowned_object_is_adopted_when_asked() -> None:
    result = rendered()
    live = observed(result)
    live[ChildKey("Service", "support")]["metadata"] |= {"ownerReferences": [], "annotations": {}}
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=True)
    assert [(c.child.kind, c.cause) for c in made.writes] == [("Service", Cause.ADOPTED)]


def test_a_child_whose_owner_was_edited_away_is_taken_back_by_the_hash_it_bears() -> None:
    result = rendered()
    live = observed(result)
    key = ChildKey("Service", "support")
    live[key]["metadata"].pop("ownerReferences")
    live[key]["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"].pop("f:ownerReferences")
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=False)
    assert [(c.child, c.verb, c.cause) for c in made.writes] == [(key, Verb.APPLY, Cause.DRIFTED)]


def test_another_controllers_object_is_not_even_adopted() -> None:
    result = rendered()
    live = observed(result)
    reference = {"kind": "Helm", "name": "theirs", "uid": "other", "controller": True}
    live[ChildKey("Service", "support")]["metadata"]["ownerReferences"] = [reference]
    made = plan(owner=OWNER, children=result.children, observed=live, adopt=True)
    assert [c.child.kind for c in made.of(Verb.REFUSE)] == ["Service"]


def test_a_deleted_namesakes_child_is_waited_for() -> None:
    result = rendered()
    live = observed(result)
    live[ChildKey("Service", "support")]["metadata"]["ownerReferences"][0]["uid"] = "an older one"
    assert verbs(result, live)["Service support"] is Verb.WAIT


def test_a_dying_child_is_waited_for() -> None:
    result = rendered()
    live = observed(result)
    live[ChildKey("Service", "support")]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert verbs(result, live)["Service support"] is Verb.WAIT


def test_only_what_may_go_is_pruned() -> None:
    old, new = rendered(agent={"instructions": "Old."}), rendered()
    live = {**observed(old), **observed(new)}
    old_key = ChildKey("ConfigMap", old.config_map)
    assert str(old_key) not in verbs(new, live)
    assert verbs(new, live, prunable=[old_key, ChildKey("ConfigMap", new.config_map)])[str(old_key)] is Verb.DELETE
    assert (
        verbs(new, live, prunable=[ChildKey("ConfigMap", new.config_map)])[f"ConfigMap {new.config_map}"] is Verb.KEEP
    )
