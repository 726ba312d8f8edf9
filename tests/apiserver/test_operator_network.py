"""How an agent is reached and what it may talk to: Services, Ingresses, NetworkPolicies, and HTTPRoutes where the Gateway API is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.standalone import StandaloneControlPlane

from .definitions import http_route
from .operator_process import Audit, OperatorProcess, Workbench, eventually

INGRESS = {
    "className": "nginx",
    "host": "support.example.com",
    "tlsSecretName": "tls",
    "annotations": {"a.example/b": "c"},
}
ROUTE = {"parentRefs": [{"name": "edge"}], "hostnames": ["support.example.com"]}
POLICY = {
    "allowFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
    "allowTo": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}, "ports": [{"port": 443}]}],
}
BUDGET = {"daily": {"tokens": 1000}}
DNS = [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]


def spec(at: Workbench, kind: str) -> dict[str, Any]:
    return at.get(kind, "agent")["spec"]


def change(at: Workbench, audit: Audit, **network: Any) -> None:
    at.patch("AgentService", "agent", {"spec": {"network": network}})
    at.serves()
    at.quiet(audit)


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_a_service_is_opened_and_closed_again_and_keeps_its_node_port_meanwhile(
    operator: OperatorProcess, at: Workbench, audit: Audit, kind: str
):
    at.agent(network={"service": {"type": kind}})
    at.serves()
    at.quiet(audit)
    port = spec(at, "Service")["ports"][0]["nodePort"]
    assert spec(at, "Service")["type"] == kind
    change(at, audit, service={"type": kind, "annotations": {"example.com/a": "b"}})
    assert spec(at, "Service")["ports"][0]["nodePort"] == port
    change(at, audit, service={"type": "ClusterIP"})
    assert spec(at, "Service")["type"] == "ClusterIP"
    assert "nodePort" not in spec(at, "Service")["ports"][0]


def test_an_ingress_leads_to_the_paths_for_callers_and_no_other(operator: OperatorProcess, at: Workbench, audit: Audit):
    at.agent(network={"ingress": INGRESS, "service": {"port": 8080}})
    made = eventually("it is made", lambda: at.find("Ingress", "agent"))
    backend = {"service": {"name": "agent", "port": {"name": "http"}}}
    assert made["spec"] == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": ["support.example.com"], "secretName": "tls"}],
        "rules": [
            {
                "host": "support.example.com",
                "http": {"paths": [{"path": "/v1", "pathType": "Prefix", "backend": backend}]},
            }
        ],
    }
    assert made["metadata"]["annotations"]["a.example/b"] == "c"
    at.serves()
    at.quiet(audit)
    at.patch(
        "Ingress", "agent", [{"op": "replace", "path": "/spec/rules/0/http/paths/0/path", "value": "/"}], how="json"
    )
    eventually("the edit is undone", lambda: spec(at, "Ingress")["rules"][0]["http"]["paths"][0]["path"] == "/v1")
    change(at, audit, ingress={"host": None, "tlsSecretName": None, "className": None})
    assert spec(at, "Ingress") == {"rules": [{"http": {"paths": made["spec"]["rules"][0]["http"]["paths"]}}]}
    change(at, audit, ingress=None)
    assert at.find("Ingress", "agent") is None


def test_a_policy_says_who_may_call_and_what_the_pods_may_talk_to(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(network={"policy": POLICY})
    made = eventually("it is made", lambda: at.find("NetworkPolicy", "agent"))["spec"]
    assert made["podSelector"] == {"matchLabels": {"agentservice.dev/name": "agent"}}
    assert made["policyTypes"] == ["Ingress", "Egress"]
    assert made["ingress"] == [
        {"from": POLICY["allowFrom"], "ports": [{"port": "http", "protocol": "TCP"}]},
    ]
    dns, provider = made["egress"]
    assert dns["ports"] == DNS
    assert provider == {
        "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
        "ports": [{"port": 443, "protocol": "TCP"}],
    }
    at.serves()
    at.quiet(audit)
    at.patch("NetworkPolicy", "agent", [{"op": "add", "path": "/spec/egress/-", "value": {}}], how="json")
    eventually("a hole is closed", lambda: len(spec(at, "NetworkPolicy")["egress"]) == 2)
    change(at, audit, policy={"enabled": False})
    assert at.find("NetworkPolicy", "agent") is None


def test_by_default_the_namespace_may_call_and_the_public_internet_may_be_called_by_https(
    operator: OperatorProcess, at: Workbench, audit: Audit
):
    at.agent(network={"policy": {"enabled": True}})
    made = eventually("it is made", lambda: at.find("NetworkPolicy", "agent"))["spec"]
    assert made["ingress"][0]["from"] == [{"podSelector": {}}]
    _, public = made["egress"]
    assert public["ports"] == [{"port": 443, "protocol": "TCP"}]
    four, six = (peer["ipBlock"] for peer in public["to"])
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(four["except"])
    assert {"fc00::/7", "fe80::/10"} <= set(six["except"])
    change(at, audit, policy={"allowFrom": [], "allowTo": []})
    closed = spec(at, "NetworkPolicy")
    assert "ingress" not in closed
    assert [rule["ports"] for rule in closed["egress"]] == [DNS]


def test_a_range_that_is_none_is_refused_in_words_that_name_the_field(operator: OperatorProcess, at: Workbench):
    at.agent(network={"policy": {"allowTo": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}})
    said = at.settles("SpecAccepted", "False", "InvalidSpec")
    assert "spec.network.policy.allowTo[0].ipBlock.cidr" in said
    at.patch("AgentService", "agent", {"spec": {"network": {"policy": {"allowTo": [{"podSelector": {"x": 1}}]}}}})
    assert "podSelector" in at.settles("SpecAccepted", "False", "InvalidSpec")


@pytest.fixture
def gateway_api(control_plane: StandaloneControlPlane) -> Iterator[Callable[[bool], None]]:
    """Install the Gateway API, or take it away."""
    definition = str(http_route())

    def install(wanted: bool) -> None:
        if wanted:
            control_plane.kubectl("apply", "--server-side", "--filename", definition)
        else:
            control_plane.kubectl("delete", "--ignore-not-found", "--filename", definition)

    install(False)
    yield install
    install(False)


def say(at: Workbench, **conditions: str) -> None:
    """Write the status of the route, as a Gateway's controller does."""
    told = [
        {
            "type": kind,
            "status": status,
            "reason": "Because",
            "message": "words of the gateway",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status in conditions.items()
    ]
    parent = {"parentRef": {"name": "edge"}, "controllerName": "example.com/gateway", "conditions": told}
    at.patch("HTTPRoute", "agent", {"status": {"parents": [parent]}}, subresource="status")


def test_a_route_is_made_once_the_gateway_api_is_installed_and_missed_when_it_is_taken_away(
    operator: OperatorProcess, at: Workbench, audit: Audit, gateway_api: Callable[[bool], None]
):
    at.agent(network={"httpRoute": ROUTE})
    assert "not installed" in at.settles("RouteAccepted", "False", "GatewayAPIMissing")
    assert at.find("Deployment", "agent"), "everything else is made"
    assert at.condition("Stalled")["status"] == "absent"
    at.quiet(audit)
    audit.forget()
    at.annotate("agent", touched="1")
    at.quiet(audit)
    assert audit.writes(namespace=at.namespace) == []

    gateway_api(True)
    route = eventually("the route is made", lambda: at.find("HTTPRoute", "agent"), seconds=90)
    at.settles("RouteAccepted", "Unknown", "RoutePending")
    backend = {"group": "", "kind": "Service", "name": "agent", "port": 80, "weight": 1}
    assert route["spec"] == {
        "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
        "hostnames": ["support.example.com"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}], "backendRefs": [backend]}],
    }
    say(at, Accepted="True", ResolvedRefs="True")
    at.settles("RouteAccepted", "True", "Routed")
    say(at, Accepted="True", ResolvedRefs="False")
    assert at.settles("RouteAccepted", "False", "RouteRefused") == "Gateway edge: Because: words of the gateway"
    at.quiet(audit)
    at.patch("HTTPRoute", "agent", {"spec": {"hostnames": ["evil.example.com"]}})
    eventually("the edit is undone", lambda: spec(at, "HTTPRoute")["hostnames"] == ["support.example.com"])
    change(at, audit, service={"port": 8080})
    assert spec(at, "HTTPRoute")["rules"][0]["backendRefs"][0]["port"] == 8080

    gateway_api(False)
    at.settles("RouteAccepted", "False", "GatewayAPIMissing", seconds=90)
    gateway_api(True)
    eventually("the route is made anew", lambda: at.find("HTTPRoute", "agent"), seconds=90)
    change(at, audit, httpRoute=None)
    assert at.find("HTTPRoute", "agent") is None
    assert at.condition("RouteAccepted")["status"] == "absent"


def test_at_rest_and_after_a_restart_nothing_of_it_is_written(
    operator: OperatorProcess, at: Workbench, audit: Audit, gateway_api: Callable[[bool], None]
):
    gateway_api(True)
    at.agent(network={"ingress": INGRESS, "httpRoute": ROUTE, "policy": {"enabled": True}}, budget=BUDGET)
    for kind in ("Ingress", "HTTPRoute", "NetworkPolicy"):
        eventually(f"{kind} is made", lambda kind=kind: at.find(kind, "agent"), seconds=90)
    at.serves()
    at.quiet(audit)
    for host in ("created", "applied"):  # what we created is owned in another way than what we applied
        audit.forget()
        operator.stop()
        operator.start()
        at.quiet(audit, seconds=3)
        assert audit.writes(namespace=at.namespace) == []
        change(
            at, audit, ingress={"host": f"{host}.example.com"}, policy={"allowFrom": []}, httpRoute={"hostnames": None}
        )
