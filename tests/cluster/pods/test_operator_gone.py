"""The operator killed or absent: agents serve on, and what has changed meanwhile is made right after."""

from __future__ import annotations

import time

import pytest

from devcluster import install

from .agents import Agent, specification
from .kills import kill_without_warning
from .kube import Kube, Manifest, is_pod_ready
from .load_generator import Caller
from .waiting import wait

TAKEOVER_SECONDS = 45
CATCH_UP_SECONDS = 30
NAMES = ("steady", "changed", "service-lost", "deployment-lost", "config-lost", "account-lost")


@pytest.fixture(scope="module")
def agents(kube: Kube, team: str) -> dict[str, Agent]:
    agents = {name: Agent(kube=kube, namespace=team, name=name).apply(specification("Say old.")) for name in NAMES}
    for agent in agents.values():
        agent.wait_ready()
    return agents


def operator_pods(kube: Kube, namespace: str) -> list[Manifest]:
    return [p for p in kube.list("Pod", namespace) if p["metadata"]["name"].startswith(install.RELEASE)]


def ready_operators(kube: Kube, namespace: str) -> list[Manifest]:
    return [pod for pod in operator_pods(kube, namespace) if is_pod_ready(pod)]


def leader(kube: Kube, namespace: str) -> str:
    """The process that holds the Lease: its pod's name, `_`, and what tells it from others of that pod."""
    lease = kube.get("Lease", namespace, install.RELEASE)
    return str((lease or {}).get("spec", {}).get("holderIdentity") or "")


def test_a_killed_leader_is_replaced_and_no_agent_notices(
    agents: dict[str, Agent], kube: Kube, operator_namespace: str, caller: Caller
):
    wait(
        "two operators are ready",
        lambda: len(ready_operators(kube, operator_namespace)) == 2,
        seconds=120,
        why=lambda: kube.kubectl("-n", operator_namespace, "get", "pods"),
    )
    first = leader(kube, operator_namespace)
    victim = kube.get("Pod", operator_namespace, first.rpartition("_")[0])
    assert victim is not None
    before = {name: agent.restarts() for name, agent in agents.items()}
    revision = agents["changed"].deployed_revision()
    with caller.load(*(agent.url for agent in agents.values()), rate=5) as load:
        kill_without_warning(kube, victim, program=b"agentservice-operator")
        killed = time.monotonic()
        agents["changed"].apply(specification("Say new."))
        wait(
            "another process has applied a change that was made after the kill",
            lambda: agents["changed"].deployed_revision() != revision,
            seconds=TAKEOVER_SECONDS - (time.monotonic() - killed),
            why=lambda: kube.kubectl("-n", operator_namespace, "get", "lease,pods", "-o", "wide"),
        )
        took = time.monotonic() - killed
        # Mostly the one that stood by; the killed one's container, started again, where that saw the last renewal first.
        successor = leader(kube, operator_namespace)
        assert successor not in ("", first)
        agents["changed"].wait_ready()
        report = load.stop()
    print(f"leader {first} killed: {successor} made a change {took:.1f} s later; {report}")
    assert not report.failed, report
    for name in set(NAMES) - {"changed"}:
        assert agents[name].restarts() == before[name]


def current_config_map(agent: Agent) -> str:
    volumes = agent.deployment()["spec"]["template"]["spec"]["volumes"]
    return next(v["configMap"]["name"] for v in volumes if v["name"] == "config")


def test_what_changed_while_the_operator_was_absent_is_right_soon_after_its_return(
    agents: dict[str, Agent], kube: Kube, team: str, operator_namespace: str
):
    replicas = kube.get("Deployment", operator_namespace, install.RELEASE)["spec"]["replicas"]  # type: ignore[index]

    def scale(count: int) -> None:
        kube.patch("Deployment", operator_namespace, install.RELEASE, {"spec": {"replicas": count}})

    def why() -> str:
        return kube.kubectl("-n", operator_namespace, "get", "pods", "-o", "wide")

    scale(0)
    try:
        wait("no operator is left", lambda: not operator_pods(kube, operator_namespace), seconds=60, why=why)
        steady = agents["steady"].restarts()
        old = agents["changed"].deployed_revision()
        config_map = current_config_map(agents["config-lost"])
        new = Agent(kube=kube, namespace=team, name="newborn").apply(specification())
        agents["changed"].apply(specification("Say newer."))
        kube.delete("Service", team, "service-lost")
        kube.delete("Deployment", team, "deployment-lost")
        kube.delete("ConfigMap", team, config_map)
        kube.delete("ServiceAccount", team, "account-lost")
        lost = agents["deployment-lost"]
        wait("the Deployment is gone", lambda: not lost.deployment(), seconds=30, why=lost.explain)
    finally:
        scale(replicas)
    asked = time.monotonic()
    wait("an operator is back", lambda: ready_operators(kube, operator_namespace), seconds=90, why=why, every=0.05)
    back = time.monotonic()

    def wrong() -> list[str]:
        checks = {
            "the change is applied": agents["changed"].deployed_revision() != old,
            "the change is observed": agents["changed"].condition("Ready") != {},
            "the Service is back": kube.get("Service", team, "service-lost"),
            "the Deployment is back": lost.deployment(),
            "the ConfigMap is back": kube.get("ConfigMap", team, config_map),
            "the ServiceAccount is back": kube.get("ServiceAccount", team, "account-lost"),
            "the new agent has pods to come": new.deployment(),
        }
        return [name for name, ok in checks.items() if not ok]

    wait("everything is right", lambda: not wrong(), seconds=CATCH_UP_SECONDS, why=wrong, every=0.05)
    right = time.monotonic()
    print(f"operator back after {back - asked:.1f} s, everything right {right - back:.1f} s later")
    for agent in (*agents.values(), new):
        agent.wait_ready()
    assert agents["steady"].restarts() == steady
