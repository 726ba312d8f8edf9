"""The network of a native cluster: a bridge in node 0, a pair of interfaces to the host, routes instead of overlays.

There is no default route: pods reach each other, Services and the host, not the internet.
"""

import json
import subprocess

from devcluster.addresses import Plan
from devcluster.errors import ClusterError
from devcluster.namespaces import Inside, run


def host_routes() -> list[str]:
    """Destinations that this machine routes."""
    return [str(route["dst"]) for route in json.loads(run(["ip", "-json", "-4", "route", "show"]) or "[]")]


def host_interfaces() -> list[str]:
    return [str(link["ifname"]) for link in json.loads(run(["ip", "-json", "link", "show"]) or "[]")]


def connect_first(plan: Plan, inside: Inside) -> None:
    """Connect node 0 with the host, and the host with pods and Services through it."""
    address, host = plan.node(0), plan.host_interface
    run(["ip", "link", "add", host, "type", "veth", "peer", "name", "up0", "netns", str(inside.init)])
    # The node routes Service addresses to itself: without a default route the API server could otherwise not reach aggregated APIs
    # and webhooks ("network is unreachable").
    inside.shell(f"""ip link add br0 type bridge
        ip link set up0 master br0 up
        ip link set br0 up
        ip addr add {address}/24 dev br0
        ip route add {plan.services} dev br0""")
    run(["ip", "addr", "add", f"{plan.host}/24", "dev", host])
    run(["ip", "link", "set", host, "up"])
    for destination in (plan.pods, plan.services):
        run(["ip", "route", "add", destination, "via", address])


def connect_further(plan: Plan, number: int, *, first: Inside, inside: Inside) -> None:
    """Connect another node with node 0's bridge; answers to the host are on the same link."""
    zero, address = plan.node(0), plan.node(number)
    run(
        [
            "ip",
            "link",
            "add",
            f"n{number}",
            "netns",
            str(first.init),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            str(inside.init),
        ]
    )
    first.shell(f"ip link set n{number} master br0 up; ip route add {plan.pods_of(number)} via {address}")
    inside.shell(f"""ip addr add {address}/24 dev eth0
        ip link set eth0 up
        ip route add {plan.services} dev eth0
        ip route add {plan.pods} via {zero}
        ip route add {plan.pods_of(0)} via {zero}""")


def disconnect(plan: Plan) -> None:
    """Remove the host's interface and with it its routes. It may be gone already: it ends with the node's namespace."""
    done = subprocess.run(["ip", "link", "delete", plan.host_interface], capture_output=True, text=True, check=False)
    if done.returncode != 0 and plan.host_interface in host_interfaces():
        raise ClusterError(f"ip link delete {plan.host_interface}: {done.stderr.strip()}")
