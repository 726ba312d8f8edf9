"""Decides whether the IP ranges of `spec.network.policy` are ranges: CEL cannot tell before Kubernetes 1.31."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from agentservice_api.problem import Problem
from agentservice_api.spec import NetworkSpec
from agentservice_api.spec.network import IpBlock


def network_problems(network: NetworkSpec) -> Iterator[Problem]:
    """Yield each range that Kubernetes would refuse in a NetworkPolicy."""
    policy = network.policy
    if policy is None:
        return
    for name, peers in (("allowFrom", policy.allow_from), ("allowTo", policy.allow_to)):
        for index, peer in enumerate(peers or ()):
            if peer.ip_block is not None:
                yield from _block_problems(peer.ip_block, f"spec.network.policy.{name}[{index}].ipBlock")


def _block_problems(block: IpBlock, field: str) -> Iterator[Problem]:
    whole = _network(block.cidr)
    if whole is None:
        yield Problem(f"{field}.cidr", _NO_RANGE.format(block.cidr))
        return
    for index, text in enumerate(block.except_):
        part = _network(text)
        if part is None:
            yield Problem(f"{field}.except[{index}]", _NO_RANGE.format(text))
        elif part.version != whole.version or not _is_inside(part, whole):
            yield Problem(f"{field}.except[{index}]", f"is no real part of {block.cidr}: leave it out")


_NO_RANGE = "{} is no range of addresses: write for instance 10.0.0.0/8, with the bits behind the prefix zero"


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text) if "/" in text else None
    except ValueError:
        return None


def _is_inside(part: IPv4Network | IPv6Network, whole: IPv4Network | IPv6Network) -> bool:
    return part.prefixlen > whole.prefixlen and part.network_address in whole
