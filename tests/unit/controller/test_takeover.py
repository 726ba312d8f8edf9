"""Ownership rewritten before an apply, so that the apply removes what is not declared."""

from __future__ import annotations

from typing import Any

from agentservice_api import names
from agentservice_operator.takeover import conversion, takeover

US = names.FIELD_MANAGER
MANIFEST: dict[str, Any] = {"spec": {"replicas": 1, "template": {"spec": {"containers": [
    {"name": "agent", "env": [{"name": "A", "value": "1"}]},
]}}}}  # fmt: skip


def deployment(*entries: dict[str, Any], env: list[str]) -> dict[str, Any]:
    containers = [{"name": "agent", "env": [{"name": name, "value": "1"} for name in env]}]
    metadata = {"resourceVersion": "7", "managedFields": list(entries)}
    return {"apiVersion": "apps/v1", "metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}}


def entry(manager: str, operation: str, env: dict[str, Any], **more: Any) -> dict[str, Any]:
    container = {'k:{"name":"agent"}': {".": {}, "f:env": env}}
    fields = {"f:spec": {"f:template": {"f:spec": {"f:containers": container}}}}
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def env_of(entry: dict[str, Any]) -> dict[str, Any]:
    container = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"agent"}']
    return container["f:env"]


def test_a_foreign_item_becomes_ours_and_nobody_elses() -> None:
    theirs = entry("kubectl", "Update", {'k:{"name":"X"}': {".": {}, "f:name": {}, "f:value": {}}})
    theirs["fieldsV1"]["f:spec"]["f:paused"] = {}
    live = deployment(theirs, entry(US, "Apply", {'k:{"name":"A"}': {".": {}}}), env=["A", "X"])
    guard, rewrite = takeover(live, MANIFEST, US)
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    kubectl, ours = rewrite["value"]
    assert env_of(ours) == {'k:{"name":"A"}': {".": {}}, 'k:{"name":"X"}': {".": {}}}
    assert kubectl["fieldsV1"]["f:spec"]["f:paused"] == {}, "what else they own stays theirs"
    assert "X" not in str(kubectl["fieldsV1"])


def test_an_entry_that_held_nothing_else_goes() -> None:
    theirs = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {'k:{"port":81,"protocol":"TCP"}': {"f:port": {}}}}}}  # fmt: skip
    ours = {"manager": US, "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {}}}}
    live = {
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7", "managedFields": [theirs, ours]},
        "spec": {"ports": [{"port": 81, "protocol": "TCP"}]},
    }
    _, rewrite = takeover(live, {"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}, US)
    (only,) = rewrite["value"]
    assert (only["manager"], only["operation"]) == (US, "Apply")
    assert only["fieldsV1"]["f:spec"]["f:ports"] == {".": {}, 'k:{"port":81,"protocol":"TCP"}': {".": {}}}


def test_without_an_entry_of_ours_one_is_made() -> None:
    live = deployment(env=["A", "X"])
    _, rewrite = takeover(live, MANIFEST, US)
    (made,) = rewrite["value"]
    assert (made["manager"], made["operation"], made["apiVersion"]) == (US, "Apply", "apps/v1")
    assert 'k:{"name":"X"}' in env_of(made)


def test_entries_for_subresources_are_left_alone() -> None:
    status = entry("kube-controller-manager", "Update", {}, subresource="status")
    live = deployment(status, entry(US, "Apply", {}), env=["A", "X"])
    _, rewrite = takeover(live, MANIFEST, US)
    assert rewrite["value"][0] == status


def test_without_foreign_items_only_the_operation_is_converted() -> None:
    live = deployment(entry(US, "Update", {}), env=["A"])
    assert takeover(live, MANIFEST, US) == conversion(live, US) != []


def test_our_update_entry_becomes_the_apply_entry_at_the_first_change() -> None:
    live = {"metadata": {"resourceVersion": "7", "managedFields": [
        {"manager": "kubectl", "operation": "Update"},
        {"manager": names.FIELD_MANAGER, "operation": "Update"},
        {"manager": names.FIELD_MANAGER, "operation": "Update", "subresource": "status"},
    ]}}  # fmt: skip
    assert conversion(live, names.FIELD_MANAGER) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "replace", "path": "/metadata/managedFields/1/operation", "value": "Apply"},
    ]


def test_an_update_entry_beside_our_apply_entry_goes() -> None:
    live = {"metadata": {"resourceVersion": "7", "managedFields": [
        {"manager": names.FIELD_MANAGER, "operation": "Apply"},
        {"manager": names.FIELD_MANAGER, "operation": "Update"},
    ]}}  # fmt: skip
    assert conversion(live, names.FIELD_MANAGER)[1:] == [{"op": "remove", "path": "/metadata/managedFields/1"}]


def test_what_is_applied_already_needs_no_conversion() -> None:
    live = {
        "metadata": {"resourceVersion": "7", "managedFields": [{"manager": names.FIELD_MANAGER, "operation": "Apply"}]}
    }
    assert conversion(live, names.FIELD_MANAGER) == []
