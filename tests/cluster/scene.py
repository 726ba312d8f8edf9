"""Agents that between them move every series there is, and how they are made to: what the dashboards are looked at with."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.bench.budgets.load import noon_zone

from agentservice_api import names

from .pods.agents import Agent, specification
from .pods.kills import kill_without_warning
from .pods.kube import ApiError, Kube, Manifest, is_pod_ready, secret
from .pods.waiting import wait
from .shipped import run

BUSY, LIMPING, POOR, STUCK = "busy", "limping", "poor", "stuck"
FAILING_FIRST = 3
"""So many model requests of the busy agent fail, the first ones."""
ATTEMPTS = 2
"""So often a task is begun."""
TOOL = "python_version"
AWAY = "openai-chat:503"
SLOW = "openai-chat:stream-600-100"
"""A stream of a minute; what is not streamed comes at once."""
_KEY = {"secretKeyRef": {"name": "model-server", "key": "api-key"}}
_SERVED = {"baseURL": "http://model-server/v1", "apiKey": _KEY}
_PRICING = {"inputPerMillionUSD": "0.15", "outputPerMillionUSD": "0.60"}


def specifications() -> Mapping[str, Manifest]:
    """Those of the agents. One works tasks off and answers out of a cache, one can only be helped by its fallback, one has a budget for one run."""
    # tests take a day to have no end
    zone = {"timeZone": noon_zone()}
    busy = specification(
        agent={"tools": [f"platform:{TOOL}"], "limits": {"runTimeoutSeconds": 30}},
        redis={"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}},
        cache={"enabled": True, "scope": "Shared", "cacheableTools": [TOOL]},
        queue={"enabled": True, "maxAttempts": ATTEMPTS, "workers": {"replicas": 1}},
        budget={**zone, "daily": {"tokens": 600_000, "costUSD": "0.20"}, "ledger": {"type": "Kubernetes"}},
        # nobody listens there: the spans are lost, and no run is
        observability={"otlp": {"endpoint": "http://127.0.0.1:4318"}},
    )
    limping = specification(
        agent={"limits": {"runTimeoutSeconds": 100}},
        budget={**zone, "daily": {"tokens": 400_000}},
        observability={"slowRunSeconds": 1},
    )
    # its provider bills more than it was allowed, once
    poor = specification(budget={**zone, "daily": {"tokens": 1_000}})
    greedy = {"name": "openai-chat:overbills-1000", **_SERVED, "settings": {"maxTokens": 200}}
    failing_first = {
        "name": f"openai-chat:503-first-{FAILING_FIRST}",
        **_SERVED,
        "pricing": _PRICING,
        "settings": {"maxTokens": 200},
        "retry": {"maxAttempts": 1},
    }
    away = {
        "name": AWAY,
        **_SERVED,
        # the pause alone makes a run slow
        "retry": {"maxAttempts": 2, "backoffSeconds": 1},
        "fallbacks": [{"name": SLOW, **_SERVED, "pricing": _PRICING, "settings": {"maxTokens": 2000}}],
    }
    stuck = specification()
    stuck["model"] = {"name": "openai-chat:stand-in", **_SERVED}
    return {
        BUSY: busy | {"model": failing_first},
        LIMPING: limping | {"model": away},
        POOR: poor | {"model": greedy},
        # its Service is somebody else's
        STUCK: stuck,
    }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is, in a namespace of its own."""

    kube: Kube
    namespace: str

    def agent(self, name: str) -> Agent:
        return Agent(kube=self.kube, namespace=self.namespace, name=name)

    def build(self, *manifests: str) -> None:
        """Apply what the agents stand on (``manifests``) and them, and wait until those that can be are Ready."""
        foreign = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": STUCK, "namespace": self.namespace},
            "spec": {"ports": [{"port": 80}]},
        }
        self.kube.apply(foreign, secret(self.namespace, "model-server", **{"api-key": "not-a-real-key"}))
        for manifest in manifests:
            self.kube.kubectl("-n", self.namespace, "apply", "-f", "-", stdin=manifest)
        for deployment in ("model-server", "redis"):
            self.kube.kubectl("-n", self.namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=300s")
        for name, spec in specifications().items():
            self.agent(name).apply(spec)
        for name in (BUSY, LIMPING, POOR):
            self.agent(name).wait_ready(seconds=300)
        self.kube.kubectl(
            "-n", self.namespace, "rollout", "status", f"deployment/{names.workers_name(BUSY)}", "--timeout=300s"
        )
        self.agent(STUCK).wait_condition("Stalled", reason="Conflict", seconds=120)

    def round(self, number: int) -> None:
        """A bit of everything: what is new, what is known, a stream, a fallback, a refusal, a task, and a change for the operator."""
        for agent, question in ((BUSY, number), (BUSY, number // 2), (LIMPING, number), (POOR, number)):
            run(self.agent(agent), f"Question {question}")
        self.stream(BUSY, f"Stream {number}")
        self.submit(f"Task {number} {uuid.uuid4().hex}")
        self.agent(POOR).patch({"metadata": {"annotations": {"round": str(number)}}})

    def stream(self, name: str, text: str) -> str:
        """Return what a stream to its end was."""
        return self.kube.request("POST", f"{self._path(name)}/v1/stream", body={"input": text})

    @contextmanager
    def under_way(self, name: str) -> Iterator[None]:
        """Have a stream under way that takes longer than the body; it is cancelled in the end where its pod still lives."""
        run_id = str(uuid.uuid4())
        request = urllib.request.Request(
            f"{self.kube.server}{self._path(name)}/v1/stream",
            data=json.dumps({"input": "Go on"}).encode(),
            headers={"Content-Type": "application/json", "X-Run-Id": run_id},
        )
        with urllib.request.urlopen(request, timeout=60):
            yield
            with suppress(ApiError):  # its pod is gone
                self.kube.request("DELETE", f"{self._path(name)}/v1/runs/{run_id}")

    def submit(self, text: str) -> str:
        """Return the id of a task that was taken in."""
        return json.loads(self.kube.request("POST", f"{self._path(BUSY)}/v1/tasks", body={"input": text}))["task_id"]

    def ended(self, task: str) -> dict[str, Any]:
        """Return the task once it has ended."""

        def look() -> dict[str, Any] | None:
            found = json.loads(self.kube.request("GET", f"{self._path(BUSY)}/v1/tasks/{task}"))
            return found if found["finished_at"] else None

        found = wait(f"task {task} has ended", look, seconds=180, why=self.agent(BUSY).explain)
        assert found is not None
        return found

    def kill(self, name: str) -> None:
        """Have the process of the agent's pod that serves die without warning, and wait for the next one."""
        agent = self.agent(name)
        (pod,) = [pod for pod in agent.pods() if is_pod_ready(pod)]
        before = agent.restarts()
        kill_without_warning(self.kube, pod, program=b"agentservice-runtime")
        wait("it has begun again", lambda: agent.restarts() != before, seconds=120, why=agent.explain)
        agent.wait_settled(seconds=180)

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services/{name}:80/proxy"
