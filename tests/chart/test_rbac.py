"""The operator may do what its code does, and nothing else."""

import pytest

from agentservice_api import AgentService, names
from agentservice_operator.kube import resources
from agentservice_operator.render import Platform, render
from agentservice_operator.shell import settings
from agentservice_operator.shell.wiring import OWNED, watched_permissions

WATCH = {"get", "list", "watch"}
CHILD = WATCH | {"create", "patch", "delete"}
NEEDED = {
    "agentservices.agentservice.dev": WATCH,
    "agentservices/status.agentservice.dev": {"patch"},
    "agentservices/finalizers.agentservice.dev": {"update"},
    "agentledgers.agentservice.dev": CHILD,
    "agentledgers/status.agentservice.dev": {"patch"},
    "roles.rbac.authorization.k8s.io": CHILD,
    "rolebindings.rbac.authorization.k8s.io": CHILD,
    "configmaps": CHILD,
    "serviceaccounts": CHILD,
    "services": CHILD,
    "deployments.apps": CHILD,
    "poddisruptionbudgets.policy": CHILD,
    "horizontalpodautoscalers.autoscaling": CHILD,
    "networkpolicies.networking.k8s.io": CHILD,
    "ingresses.networking.k8s.io": CHILD,
    "httproutes.gateway.networking.k8s.io": CHILD,
    "scaledobjects.keda.sh": CHILD,
    "triggerauthentications.keda.sh": CHILD,
    "secrets": {"create"},
    "pods": WATCH,
    "replicasets.apps": WATCH,
    "events.events.k8s.io": {"create", "list", "watch"},
}
LEASE = {"leases.coordination.k8s.io": {"create", "get", "update"}}


def granted(*roles):
    found = {}
    for role in roles:
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    label = f"{resource}.{group}" if group else resource
                    found.setdefault(label, set()).update(rule["verbs"])
    return found


def bound(rendered, kind):
    """The roles of this kind that the operator's own ServiceAccount holds."""
    account = rendered.one("ServiceAccount")["metadata"]
    bindings = [*rendered.all("RoleBinding"), *rendered.all("ClusterRoleBinding")]
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    names = {binding["roleRef"]["name"] for binding in bindings if binding["roleRef"]["kind"] == kind}
    return [role for role in rendered.all(kind) if role["metadata"]["name"] in names]


def test_cluster_wide_the_operator_holds_exactly_what_it_needs(chart):
    rendered = chart.render()
    assert granted(*bound(rendered, "ClusterRole")) == NEEDED
    assert granted(*bound(rendered, "Role")) == LEASE


def test_with_watch_namespaces_there_is_no_cluster_role_at_all(chart):
    rendered = chart.render({"watchNamespaces": ["team-a", "team-b"]})
    assert not {"ClusterRole", "ClusterRoleBinding"} & set(rendered.kinds)
    served = [role for role in rendered.all("Role") if "-leader" not in role["metadata"]["name"]]
    assert [role["metadata"]["namespace"] for role in served] == ["team-a", "team-b"]
    assert [granted(role) for role in served] == [NEEDED, NEEDED]
    assert {binding["metadata"]["namespace"] for binding in rendered.all("RoleBinding")} == {
        "team-a",
        "team-b",
        "agents-system",
    }


def test_only_its_own_lease_may_be_changed(chart):
    rendered = chart.render()
    (role,) = rendered.all("Role")
    named = [rule for rule in role["rules"] if "create" not in rule["verbs"]]
    assert [rule["resourceNames"] for rule in named] == [[rendered.env["LEASE_NAME"]]]


def test_nothing_is_granted_by_a_wildcard(chart):
    for values in ({}, {"watchNamespaces": ["a"]}):
        rendered = chart.render(values)
        for role in [*rendered.all("ClusterRole"), *rendered.all("Role")]:
            for rule in role["rules"]:
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_every_kind_that_the_code_knows_is_granted_and_no_other():
    known = {resource.label for resource in resources.KNOWN}
    assert {label for label in {**NEEDED, **LEASE} if "/" not in label} == known


REDIS = {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
EVERYTHING = {
    "replicas": 3,
    "auth": {"type": "BearerToken"},
    "budget": {"daily": {"tokens": 1}},
    "redis": REDIS,
    "queue": {"enabled": True, "workers": {"replicas": 2}},
    "network": {
        "policy": {"enabled": True},
        "ingress": {"host": "a.example.com"},
        "httpRoute": {"parentRefs": [{"name": "edge"}]},
    },
}
"""With one of the autoscalers beside it, every kind of child that there is."""
SCALED = (
    {"maxReplicas": 3},
    {"provider": "KEDA", "maxReplicas": 3, "queuedTasksPerPod": 5},
)


def children(**more):
    spec = {"agent": {"instructions": "x"}, "model": {"name": "test"}, **more}
    resource = AgentService.model_validate({"metadata": {"name": "a", "namespace": "b", "uid": "c"}, "spec": spec})
    return render(resource, platform=Platform(runtime_image="x", prometheus="http://p")).children


def test_what_may_be_written_is_what_can_be_rendered_and_the_ledger():
    rendered = [child for autoscaling in SCALED for child in children(**EVERYTHING, autoscaling=autoscaling)]
    written = {resources.resource_of(child["apiVersion"], child["kind"]).label for child in rendered}
    assert written | {resources.AGENTLEDGERS.label} == {label for label, verbs in NEEDED.items() if verbs == CHILD}


def test_every_kind_of_child_is_rendered_by_the_specification_above():
    """A kind that is watched as a child and not rendered there would make the test before this one blind."""
    rendered = {child["kind"] for autoscaling in SCALED for child in children(**EVERYTHING, autoscaling=autoscaling)}
    assert rendered == {watch.resource.kind for watch in OWNED}


def test_what_a_budget_grants_to_pods_the_operator_holds_itself():
    """The API server refuses a Role that grants more than its writer has, unless the writer may escalate, which ours may not."""
    roles = [child for child in children(budget={"daily": {"tokens": 1}}) if child["kind"] == "Role"]
    for label, verbs in granted(*roles).items():
        assert verbs <= NEEDED[label]


def test_the_price_book_is_one_config_map_of_the_release_that_may_be_read(chart):
    values = {"priceBook": {"configMap": "prices"}, "watchNamespaces": ["team-a"]}
    rendered = chart.render(values)
    assert rendered.env["PRICE_BOOK"] == "prices"
    (role,) = [role for role in rendered.all("Role") if role["metadata"]["namespace"] == "agents-system"]
    (rule,) = [rule for rule in role["rules"] if rule["resources"] == ["configmaps"]]
    assert (rule["resourceNames"], set(rule["verbs"])) == (["prices"], WATCH)
    assert not [rule for rule in chart.render().one("Role")["rules"] if rule["resources"] == ["configmaps"]]


@pytest.mark.parametrize("served", [[], ["team-a"]], ids=["cluster-wide", "with Roles alone"])
def test_secrets_are_read_only_by_name_and_only_where_the_chart_is_told_to(chart, served):
    reading = chart.render({"readSecrets": {"enabled": True}, "watchNamespaces": served})
    leader, *others = sorted(bound(reading, "Role"), key=lambda role: role["metadata"]["namespace"])
    (for_agents,) = others or bound(reading, "ClusterRole")
    assert granted(for_agents) == {**NEEDED, "secrets": {"create", "get"}}
    own = [rule for rule in leader["rules"] if rule["resources"] == ["secrets"]]
    key = names.digest_key_name(reading.env["LEASE_NAME"])
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in own] == [(["create"], None), (["get"], [key])]
    assert granted(leader) == {**LEASE, "secrets": {"create", "get"}}


def test_how_often_secrets_are_looked_at_is_what_the_operator_is_told(chart):
    rendered = chart.render({"readSecrets": {"intervalSeconds": 300}})
    assert settings.from_environment({"RUNTIME_IMAGE": "x", **rendered.env}).secrets_seconds == 300
    assert settings.from_environment({"RUNTIME_IMAGE": "x", **chart.render().env}).secrets_seconds == 60


def test_permissions_can_be_left_to_someone_else(chart):
    kinds = chart.render({"rbac": {"create": False}}).kinds
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & set(kinds)


def test_people_who_may_edit_may_edit_and_scale_agents(chart):
    roles = {role["metadata"]["name"]: role for role in chart.render().all("ClusterRole")}
    edit = roles["agents-agentservice-operator-edit"]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert granted(edit)["agentservices/scale.agentservice.dev"] == {"update", "patch"}
    assert not any(label.startswith("agentledgers") for label in granted(edit))
    view = roles["agents-agentservice-operator-view"]
    assert {verb for verbs in granted(view).values() for verb in verbs} == WATCH


def test_the_default_roles_can_be_left_alone(chart):
    roles = chart.render({"rbac": {"aggregateToDefaultRoles": False}}).all("ClusterRole")
    assert [role["metadata"]["name"] for role in roles] == ["agents-agentservice-operator"]


def test_what_the_process_watches_may_be_listed_and_watched():
    for resource, _ in watched_permissions():
        assert {"list", "watch"} <= NEEDED[resource.label]
