"""Address plans that cannot collide."""

import itertools
from ipaddress import IPv4Address, IPv4Network

import pytest

from devcluster.addresses import PLANS, Plan, choose
from devcluster.errors import ClusterError


def test_no_two_plans_share_an_address():
    networks = [IPv4Network(network) for index in range(PLANS) for network in Plan(index=index).networks]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(networks, 2))


def test_every_address_of_a_plan_lies_in_its_networks():
    plan = Plan(index=7)
    nodes, pods, services = map(IPv4Network, plan.networks)
    assert all(IPv4Address(address) in nodes for address in (plan.host, plan.node(0), plan.node(8)))
    assert IPv4Network(plan.pods_of(3)).subnet_of(pods)
    assert all(IPv4Address(address) in services for address in (plan.kubernetes, plan.dns))


def test_interface_names_fit_into_linux():
    assert all(len(Plan(index=index).host_interface) <= 15 for index in range(PLANS))


def test_the_first_plan_that_nobody_has_is_taken():
    assert choose(taken=[0, 2], routes=["default", "192.0.2.0/24"]).index == 1


@pytest.mark.parametrize(
    ("route", "expected"), [("10.213.0.0/24", 1), ("10.100.0.0/14", 4), ("10.150.7.9", 1), ("0.0.0.0/0", 0)]
)
def test_a_plan_that_overlaps_a_route_of_the_machine_is_passed_over(route: str, expected: int):
    assert choose(taken=[], routes=[route]).index == expected


def test_a_machine_that_routes_all_of_them_is_told_so():
    with pytest.raises(ClusterError, match="no free addresses"):
        choose(taken=[], routes=["10.0.0.0/8"])
