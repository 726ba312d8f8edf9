"""The address plan of a native cluster: which networks it takes, and which plan is free on this machine."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from devcluster.errors import ClusterError

PLANS = 50


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Networks of one cluster. The node network has a bridge; pods and services are routed, so no two plans share a bit."""

    index: int
    """0 to 49."""

    @property
    def name(self) -> str:
        """Of the cgroup and of the interfaces on the host (at most 15 letters in all)."""
        return f"agentdc{self.index}"

    @property
    def host_interface(self) -> str:
        return f"{self.name}-h"

    @property
    def nodes(self) -> str:
        return f"10.213.{self.index}.0/24"

    @property
    def host(self) -> str:
        """The host, as nodes and pods see it."""
        return f"10.213.{self.index}.1"

    def node(self, number: int) -> str:
        return f"10.213.{self.index}.{2 + number}"

    @property
    def pods(self) -> str:
        return f"10.{100 + self.index}.0.0/16"

    def pods_of(self, number: int) -> str:
        return f"10.{100 + self.index}.{number}.0/24"

    @property
    def services(self) -> str:
        return f"10.{150 + self.index}.0.0/16"

    @property
    def kubernetes(self) -> str:
        """The address of the `kubernetes` Service: the first of its range, by convention."""
        return f"10.{150 + self.index}.0.1"

    @property
    def dns(self) -> str:
        return f"10.{150 + self.index}.0.10"

    @property
    def networks(self) -> tuple[str, str, str]:
        return self.nodes, self.pods, self.services


def choose(*, taken: Iterable[int], routes: Iterable[str]) -> Plan:
    """The first plan that nobody has and that overlaps no network the machine already routes (an office's VPN, say).

    `routes` are destinations as `ip route` prints them; `default` is none. Raises ClusterError when no plan is free.
    """
    known = [network for route in routes if (network := _network(route)) is not None]
    used = set(taken)
    for index in range(PLANS):
        plan = Plan(index=index)
        clash = any(ipaddress.IPv4Network(own).overlaps(other) for own in plan.networks for other in known)
        if index not in used and not clash:
            return plan
    raise ClusterError(
        "no free addresses: each of 10.213.0-49.0/24, 10.100-149.0.0/16 and 10.150-199.0.0/16 overlaps a route of this machine"
    )


def _network(route: str) -> ipaddress.IPv4Network | None:
    try:
        network = ipaddress.IPv4Network(route, strict=False)
    except ValueError:
        return None
    return network if network.prefixlen > 0 else None
