"""Decides what `spec.network` may say: how the agent is reached, from outside too, and what its pods may talk to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from agentservice_api.schema import Explained, ListType, Model, Rule
from agentservice_api.spec.references import Annotations, NameOrEmpty, ObjectName, OpenObject

Port = Annotated[int, Field(ge=1, le=65535)]
Cidr = Annotated[str, StringConstraints(min_length=1, max_length=64)]
HostName = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
    Explained("a host is a DNS name in lower case, such as support.example.com; its first part may be *"),
]


class ServiceType(StrEnum):
    """The kinds of Service that may stand before the pods."""

    CLUSTER_IP = "ClusterIP"
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"


class ServiceSpec(Model):
    """The Service in front of the pods."""

    type: ServiceType = Field(
        default=ServiceType.CLUSTER_IP, description="ClusterIP (default), LoadBalancer or NodePort."
    )
    port: Port = Field(default=80, description="The Service's port. Default 80.")
    annotations: Annotations = Field(default={}, description="Annotations of the Service. Default: none.")


class IngressSpec(Model):
    """An Ingress that leads to the paths for callers, /v1."""

    class_name: NameOrEmpty = Field(
        default="", description="The IngressClass. Default: the one that the cluster has as its default."
    )
    host: HostName | None = Field(
        default=None, description="The DNS name that callers use, for instance support.example.com. Absent: every name."
    )
    tls_secret_name: NameOrEmpty = Field(
        default="", description="A Secret of this namespace with tls.crt and tls.key. Empty: no TLS here."
    )
    annotations: Annotations = Field(default={}, description="Annotations of the Ingress. Default: none.")


class ParentReference(Model):
    """A Gateway that the route belongs to."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: NameOrEmpty = Field(default="", description="Its namespace. Default: this one.")
    section_name: NameOrEmpty = Field(default="", description="One listener of it. Default: all that fit.")


class HttpRouteSpec(Model):
    """An HTTPRoute of the Gateway API that leads to the paths for callers, /v1."""

    parent_refs: Annotated[tuple[ParentReference, ...], Field(min_length=1, max_length=32), ListType("atomic")] = Field(
        description="The Gateways that take the route."
    )
    hostnames: Annotated[tuple[HostName, ...], Field(max_length=16), ListType("atomic")] = Field(
        default=(), description="The DNS names that callers use. Default: those of the Gateway."
    )


class IpBlock(Model):
    """A range of IP addresses."""

    cidr: Cidr = Field(description="The range, for instance 10.0.0.0/8 or 2001:db8::/32.")
    except_: Annotated[tuple[Cidr, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), alias="except", description="Parts of it that are left out."
    )


_PEER_RULE = Rule(
    rule="has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
    message="say who: podSelector, namespaceSelector or both, or an ipBlock alone",
)


class Peer(Model):
    """Pods, by their labels and their namespace's, or IP addresses."""

    rules: ClassVar[tuple[Rule, ...]] = (_PEER_RULE,)

    pod_selector: OpenObject | None = Field(
        default=None,
        description="Pods by their labels, as in a NetworkPolicy; of this namespace, or of those selected.",
    )
    namespace_selector: OpenObject | None = Field(
        default=None, description="Namespaces by their labels, as in a NetworkPolicy."
    )
    ip_block: IpBlock | None = Field(default=None, description="IP addresses outside of the cluster.")


class Protocol(StrEnum):
    """What travels over IP."""

    TCP = "TCP"
    UDP = "UDP"


class PolicyPort(Model):
    """A port, or a range of ports."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.endPort) || self.endPort >= self.port",
            message="endPort must be at least port: it is the last one of the range",
            field_path=".endPort",
        ),
    )

    port: Port = Field(description="The port, or the first one of a range.")
    end_port: Port | None = Field(default=None, description="The last port of a range. Default: `port` alone.")
    protocol: Protocol = Field(default=Protocol.TCP, description="TCP (default) or UDP.")


class Destination(Peer):
    """What the pods may talk to."""

    ports: Annotated[tuple[PolicyPort, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Its ports. Default: all."
    )


class PolicySpec(Model):
    """A NetworkPolicy of the pods. It acts where the cluster's network enforces policies."""

    enabled: bool = Field(default=True, description="false: none is made, whatever stands here. Default true.")
    allow_from: Annotated[tuple[Peer, ...], Field(max_length=32), ListType("atomic")] | None = Field(
        default=None, description="Who may call. Default: the pods of this namespace. An empty list: nobody."
    )
    allow_to: Annotated[tuple[Destination, ...], Field(max_length=32), ListType("atomic")] | None = Field(
        default=None,
        description="What the pods may talk to, beside DNS and, with a budget, the API server: the model's provider, MCP "
        "servers, databases. Default: public addresses on port 443. An empty list: nothing else.",
    )


class NetworkSpec(Model):
    """How the agent is reached, and what its pods may talk to."""

    service: ServiceSpec = Field(default=ServiceSpec(), description="The Service in front of the pods.")
    ingress: IngressSpec | None = Field(
        default=None, description="An Ingress, for callers outside of the cluster. Absent: none."
    )
    http_route: HttpRouteSpec | None = Field(
        default=None,
        description="A route of the Gateway API, for callers outside of the cluster; made where that is installed. Absent: none.",
    )
    policy: PolicySpec | None = Field(
        default=None,
        description="Who may call the pods and what they may talk to. Absent: whatever the cluster allows.",
    )
