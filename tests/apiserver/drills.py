"""The life that agents lead in a drill, and the judgement at its end: every child as declared, the status true, nothing lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agentservice_operator.manifest import Owner, child_key
from agentservice_operator.parse import parse
from agentservice_operator.plan import Verb, plan
from agentservice_operator.render import Platform, render

from .operator_process import Audit, Workbench, Write, eventually

PLATFORM = Platform(runtime_image="registry.example/agentservice-runtime:1")
"""As `OperatorProcess` sets it up."""
KINDS = (
    "ConfigMap", "ServiceAccount", "Role", "RoleBinding", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler",
    "NetworkPolicy", "Ingress", "Deployment",
)  # fmt: skip
RICH: dict[str, Any] = {
    "auth": {"type": "BearerToken"},
    "budget": {"daily": {"tokens": 100_000}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
    "network": {"ingress": {"host": "agent.example.com"}, "policy": {"enabled": True}},
}
"""A specification with a child of every kind that needs no other CustomResourceDefinition, a Secret and a ledger."""
COMES_TO_REST_SECONDS = 120
"""Backoffs have grown meanwhile; a machine may be busy."""


def differences(at: Workbench, name: str, *, platform: Platform = PLATFORM) -> list[str]:
    """What an operator would still write of an agent, judged by a fresh look at the API server."""
    live = at.get("AgentService", name)
    metadata = live["metadata"]
    rendered = render(parse(live, defaults={}), platform=platform)
    typed = (
        {"kind": kind, "apiVersion": version, **child}
        for kind in KINDS
        for version in [next((c["apiVersion"] for c in rendered.children if c["kind"] == kind), "")]
        for child in at.list(kind, of=name)
    )
    observed = {child_key(child): child for child in typed}
    wanted = {child_key(child) for child in rendered.children}
    owner = Owner(namespace=at.namespace, name=name, uid=metadata["uid"])
    unneeded = {key for key in observed.keys() - wanted if key.kind != "ConfigMap"}
    changes = plan(owner=owner, children=rendered.children, observed=observed, adopt=False, prunable=unneeded)
    found = [f"{c.verb.value} {c.child}: {c.cause}" for c in changes.changes if c.verb is not Verb.KEEP]
    if rendered.generated_secret and at.find("Secret", rendered.generated_secret) is None:
        found.append(f"create Secret {rendered.generated_secret}")
    if live["spec"].get("budget") and not (at.find("AgentLedger", name) or {}).get("status", {}).get("seeded"):
        found.append(f"seed AgentLedger {name}")
    return found


def right(at: Workbench, *names: str, ready: bool = True, seconds: float = COMES_TO_REST_SECONDS) -> None:
    """Wait until every agent has all its children as declared and its status says so of this generation."""

    def is_right() -> bool:
        wrong = {name: found for name in names if (found := differences(at, name))}
        assert not wrong, wrong
        for name in names:
            live = at.get("AgentService", name)
            assert live["status"]["observedGeneration"] == live["metadata"]["generation"], name
            revision = live["status"]["revision"]
            template = at.get("Deployment", name)["spec"]["template"]
            assert revision == template["metadata"]["labels"]["agentservice.dev/revision"], name
            if ready:
                said = at.condition("Ready", name)
                assert said["status"] == "True", said
                assert revision in said["message"], said
        return True

    eventually(f"{', '.join(names)}: all as declared", is_right, seconds=seconds, every=0.3)


def gone(at: Workbench, *names: str, seconds: float = COMES_TO_REST_SECONDS) -> None:
    """Wait until nothing is left of agents but their ledgers."""

    def is_gone() -> bool:
        left = [f"{kind} of {name}" for name in names for kind in KINDS if at.list(kind, of=name)]
        assert not left, left
        return True

    eventually(f"{', '.join(names)}: gone", is_gone, seconds=seconds, every=0.3)


@dataclass
class Life:
    """Five agents of which one is kept as it is, one changed, one robbed of children, one edited by hand, one deleted; a sixth is new.

    `begin` before the drill, `go_on` in the middle of it, `ends_well` after it. Needs a `kubelet` for the namespace.
    """

    at: Workbench
    kept: dict[str, Any] = field(default_factory=dict[str, Any])

    def begin(self, audit: Audit) -> None:
        self.at.agent("kept", **RICH)
        self.at.agent("changed", replicas=2)
        for name in ("robbed", "edited", "deleted"):
            self.at.agent(name)
        right(self.at, "kept", "changed", "robbed", "edited", "deleted")
        self.at.quiet(audit)
        self.kept = self._pods_of_kept()

    def go_on(self) -> None:
        at = self.at
        at.patch("AgentService", "changed", {"spec": {"agent": {"instructions": "Answer at length."}, **RICH}})
        for kind in ("Service", "ServiceAccount", "Deployment"):
            at.delete(kind, "robbed")
        at.patch("Service", "edited", [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}], how="json")
        at.delete("AgentService", "deleted")
        at.agent("new", **RICH)

    def ends_well(self, audit: Audit) -> None:
        at = self.at
        right(at, "kept", "changed", "robbed", "edited", "new")
        gone(at, "deleted")
        at.quiet(audit)
        assert "Answer at length." in at.get("ConfigMap", at.config_map("changed"))["data"]["config.json"]
        assert at.get("Service", "edited")["spec"]["ports"][0]["port"] == 80
        assert self._pods_of_kept() == self.kept, "what nobody had touched was touched"

    def _pods_of_kept(self) -> dict[str, Any]:
        deployment = self.at.get("Deployment", "kept")
        pods = sorted(pod["metadata"]["uid"] for pod in self.at.list("Pod", of="kept"))
        metadata = deployment["metadata"]
        return {"uid": metadata["uid"], "generation": metadata["generation"], "pods": pods}


WRITES_OF_A_LIFE = 80
"""What `go_on` takes without any fault: 11 children and a ledger twice, a status with each step of the pods, and what is healed."""


def written(audit: Audit, at: Workbench) -> list[Write]:
    """What operators wrote with success.

    Left out is what they made anew for an agent whose deletion no watch had told them of: how often the garbage collector takes it
    away again depends on how long they hear nothing.
    """
    unheard = ("deleted", "forgotten")
    writes = audit.writes(namespace=at.namespace)
    return [write for write in writes if write.code < 400 and not write.name.startswith(unheard)]


def twice_created(writes: Iterable[Write]) -> dict[str, int]:
    """Objects that were created more often than once."""
    made = Counter(f"{write.resource} {write.name}" for write in writes if write.verb == "create" and write.code < 400)
    return {what: count for what, count in made.items() if count > 1}
