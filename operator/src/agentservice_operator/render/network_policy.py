"""Decides the NetworkPolicy of the pods: who may call them, and what they may talk to.

A NetworkPolicy knows addresses and pods, no names: the provider, MCP servers and databases stand in `allowTo`, and where that is
absent the public Internet by HTTPS stands for the provider. DNS is always allowed, the API server where the budget needs it,
and the collector of traces where its address says which namespace it is in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from agentservice_api import AgentServiceSpec
from agentservice_api.spec import Peer, PolicyPort, PolicySpec
from agentservice_operator.manifest import Manifest
from agentservice_operator.render.fleet import Fleet
from agentservice_operator.render.metadata import metadata

PRIVATE_RANGES: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""RFC 1918, RFC 6598 and RFC 4193."""

_DNS_PORTS: Final = (53, 5353)
"""5353 is where OpenShift's DNS pods listen; a policy acts behind the Service."""
_NODE_LOCAL_DNS: Final = "169.254.20.10/32"
"""https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/"""
_NOT_PUBLIC_4: Final = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
)  # fmt: skip
"""Link-local holds the clouds' metadata servers, which hand out the node's credentials."""
_NOT_PUBLIC_6: Final = ("::1/128", "64:ff9b::/96", "fc00::/7", "fe80::/10")


@dataclass(frozen=True, kw_only=True)
class ApiServerAddresses:
    """Where pods reach the API server, as the network sees it behind the Service `kubernetes`."""

    cidrs: tuple[str, ...] = PRIVATE_RANGES
    ports: tuple[int, ...] = (443, 6443)


def render_network_policy(fleet: Fleet, spec: AgentServiceSpec, *, api_server: ApiServerAddresses) -> Manifest | None:
    """Return the NetworkPolicy, None when none is asked for."""
    policy = spec.network.policy
    if policy is None or not policy.enabled:
        return None
    intent: Manifest = {
        "podSelector": {"matchLabels": fleet.selector},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [*_egress(spec, policy, api_server)],
    }
    callers: list[Manifest] = (
        [{"podSelector": {}}] if policy.allow_from is None else [_peer(peer) for peer in policy.allow_from]
    )
    if callers:  # an empty `from` would mean everybody
        intent["ingress"] = [{"from": callers, "ports": [{"port": "http", "protocol": "TCP"}]}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(fleet.owner, fleet.name),
        "spec": intent,
    }


def _egress(spec: AgentServiceSpec, policy: PolicySpec, api_server: ApiServerAddresses) -> Iterator[Manifest]:
    yield {
        "to": [{"namespaceSelector": {}}, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}],
        "ports": [{"port": port, "protocol": protocol} for port in _DNS_PORTS for protocol in ("UDP", "TCP")],
    }
    if spec.budget is not None:
        yield {
            "to": [{"ipBlock": {"cidr": cidr}} for cidr in api_server.cidrs],
            "ports": [{"port": port, "protocol": "TCP"} for port in api_server.ports],
        }
    if spec.observability.otlp is not None:
        yield from _collector(spec.observability.otlp.endpoint)
    if policy.allow_to is None:
        yield {
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_NOT_PUBLIC_4)}},
                {"ipBlock": {"cidr": "::/0", "except": list(_NOT_PUBLIC_6)}},
            ],
            "ports": [{"port": 443, "protocol": "TCP"}],
        }
    for destination in policy.allow_to or ():
        ports = [_port(port) for port in destination.ports]
        yield {"to": [_peer(destination)], **({"ports": ports} if ports else {})}


def _collector(endpoint: str) -> Iterator[Manifest]:
    """Yield the way to a collector by address, NAME or NAME.NAMESPACE(.svc...); one outside stands in `allowTo`, if anything does."""
    try:
        address = urlsplit(endpoint)
        host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    except ValueError:  # a port that is none; the runtime says so
        return
    name, _, rest = host.partition(".")
    namespace, _, service = rest.partition(".")
    try:
        parsed = ipaddress.ip_address(host)
        peer: Manifest = {"ipBlock": {"cidr": f"{parsed}/{parsed.max_prefixlen}"}}
    except ValueError:
        if service and service.partition(".")[0] != "svc":
            return
        peer = {"podSelector": {}}
        if namespace:
            peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    if name:
        yield {"to": [peer], "ports": [{"port": port, "protocol": "TCP"}]}


def _peer(peer: Peer) -> Manifest:
    if peer.ip_block is not None:
        left_out: Manifest = {"except": list(peer.ip_block.except_)} if peer.ip_block.except_ else {}
        return {"ipBlock": {"cidr": peer.ip_block.cidr, **left_out}}
    selectors: dict[str, Any] = {"podSelector": peer.pod_selector, "namespaceSelector": peer.namespace_selector}
    return {key: value for key, value in selectors.items() if value is not None}


def _port(port: PolicyPort) -> Manifest:
    last: Manifest = {} if port.end_port is None else {"endPort": port.end_port}
    return {"port": port.port, **last, "protocol": port.protocol.value}
