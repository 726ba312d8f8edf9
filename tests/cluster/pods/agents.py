"""AgentServices as tests make them, and what is asked about the pods behind them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .kube import Kube, Manifest, condition, is_pod_ready
from .waiting import wait

REVISION = "agentservice.dev/revision"
PAUSED = "agentservice.dev/paused"


def specification(
    instructions: str = "Answer briefly.", *, model: str = "test", replicas: int = 1, **parts: Any
) -> Manifest:
    """A specification of pods that stop quickly and fit on a small node; `parts` are further members of spec."""
    agent = {"limits": {"runTimeoutSeconds": 5}, **parts.pop("agent", {})}
    if not {"instructionsFrom", "entrypoint"} & agent.keys():
        agent.setdefault("instructions", instructions)
    runtime = {"resources": {"requests": {"cpu": "10m", "memory": "128Mi"}}, **parts.pop("runtime", {})}
    return {"agent": agent, "model": {"name": model}, "replicas": replicas, "runtime": runtime, **parts}


@dataclass(frozen=True, kw_only=True)
class Images:
    """What runs in the cluster already: the installed operator's image and the one that it gives to agents."""

    operator: str
    runtime: str


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One AgentService in the cluster."""

    kube: Kube
    namespace: str
    name: str

    @property
    def url(self) -> str:
        return f"http://{self.name}.{self.namespace}.svc"

    def apply(self, spec: Manifest, **metadata: Any) -> Agent:
        self.kube.apply(
            {
                "apiVersion": "agentservice.dev/v1alpha1",
                "kind": "AgentService",
                "metadata": {"name": self.name, "namespace": self.namespace, **metadata},
                "spec": spec,
            }
        )
        return self

    def patch(self, patch: Manifest) -> None:
        self.kube.patch("AgentService", self.namespace, self.name, patch)

    def pause(self, *, paused: bool) -> None:
        self.patch({"metadata": {"annotations": {PAUSED: "true" if paused else None}}})

    def live(self) -> Manifest:
        found = self.kube.get("AgentService", self.namespace, self.name)
        assert found is not None, f"{self.name} does not exist"
        return found

    def deployment(self) -> Manifest:
        return self.kube.get("Deployment", self.namespace, self.name) or {}

    def deployed_revision(self) -> str:
        template = self.deployment().get("spec", {}).get("template", {})
        return template.get("metadata", {}).get("labels", {}).get(REVISION, "")

    def pods(self) -> list[Manifest]:
        return self.kube.list("Pod", self.namespace, selector=f"agentservice.dev/name={self.name}")

    def condition(self, kind: str) -> Manifest:
        """The condition of the current generation, empty when there is none yet."""
        live = self.live()
        found = condition(live, kind)
        return found if found.get("observedGeneration") == live["metadata"]["generation"] else {}

    def is_ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"

    def wait_ready(self, *, seconds: float = 120) -> Agent:
        wait(f"{self.name} is Ready", self.is_ready, seconds=seconds, why=self.explain)
        return self

    def wait_condition(self, kind: str, *, reason: str, seconds: float = 60) -> Manifest:
        """Wait until the condition has this reason, and return it."""

        def look() -> Manifest | None:
            found = self.condition(kind)
            return found if found.get("reason") == reason else None

        return wait(f"{self.name} has {kind} with reason {reason}", look, seconds=seconds, why=self.explain)

    def wait_settled(self, *, seconds: float = 60) -> Agent:
        """Wait until no pod is left that is not Ready: what was stopped is gone."""
        wait(
            f"{self.name} has only pods that are Ready",
            lambda: (pods := self.pods()) and all(map(is_pod_ready, pods)),
            seconds=seconds,
            why=self.explain,
        )
        return self

    def restarts(self) -> dict[str, int]:
        """Restarts of each pod by UID: equal before and after means that nothing was touched."""
        return {
            pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
            for pod in self.pods()
        }

    def explain(self) -> str:
        """Everything that helps to see why it is as it is."""
        live = self.live()
        status = live.get("status", {})
        pods = [
            {
                "name": p["metadata"]["name"],
                "revision": p["metadata"]["labels"].get(REVISION),
                "dying": bool(p["metadata"].get("deletionTimestamp")),
                "phase": p["status"].get("phase"),
                "states": [c.get("state") for c in p["status"].get("containerStatuses", [])],
            }
            for p in self.pods()
        ]
        return json.dumps({"generation": live["metadata"]["generation"], "status": status, "pods": pods}, indent=1)
