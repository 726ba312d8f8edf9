"""Starts real operator processes against a real API server, and tells what they did from outside: audit log, logs, metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.api import Api, RefusedError
from devcluster.standalone import StandaloneControlPlane, free_ports

SYSTEM_NAMESPACE = "agentservice-system"
USER_AGENT = "agentservice-operator"
COLLECTIONS: Mapping[str, str] = {
    "AgentLedger": "apis/agentservice.dev/v1alpha1/namespaces/{}/agentledgers",
    "AgentService": "apis/agentservice.dev/v1alpha1/namespaces/{}/agentservices",
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "Event": "apis/events.k8s.io/v1/namespaces/{}/events",
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "Ingress": "apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Pod": "api/v1/namespaces/{}/pods",
    "ReplicaSet": "apis/apps/v1/namespaces/{}/replicasets",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "ResourceQuota": "api/v1/namespaces/{}/resourcequotas",
    "ScaledObject": "apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "TriggerAuthentication": "apis/keda.sh/v1alpha1/namespaces/{}/triggerauthentications",
    "Secret": "api/v1/namespaces/{}/secrets",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "api/v1/namespaces/{}/services",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
}
CHILDREN = ("ConfigMap", "ServiceAccount", "Service", "Deployment")
PATCH_TYPES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


def eventually(what: str, question: Callable[[], Any], *, seconds: float = 120, every: float = 0.1) -> Any:
    """Ask until the answer is true (an assertion that fails is a no, too) and return it.

    Raises AssertionError with ``what`` and the last failure after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = "the answer was no"
        try:
            answer = question()
            if answer:
                return answer
            last = f"the answer was {answer!r}"
        except (AssertionError, RefusedError, OSError, LookupError, ValueError, StopIteration) as error:
            last = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what} ({last})")
        time.sleep(every)


@dataclass(frozen=True)
class Write:
    """One request that wrote, as the API server saw it."""

    user: str
    agent: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    code: int

    def __str__(self) -> str:
        path = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {path} {self.namespace}/{self.name} ({self.code})"


class Audit:
    """The writes since this object was made or `forget` was called. The API server writes its log at each answer."""

    def __init__(self, plane: StandaloneControlPlane) -> None:
        self._path = plane.audit_log
        self._offset = 0
        self.forget()

    def forget(self) -> None:
        self._offset = self._path.stat().st_size

    def writes(
        self, *, namespace: str | None = None, user: str | None = None, events: bool = False, leases: bool = False
    ) -> list[Write]:
        """What operators wrote; without their Events and Leases unless asked for."""
        with self._path.open("rb") as log:
            log.seek(max(self._offset - 1, 0))
            content = log.read()
        if self._offset:
            content = content.partition(b"\n")[2]  # a line that was half written when we began to look is of before
        found = [_write(json.loads(line)) for line in content.splitlines() if line.endswith(b"}")]
        return [
            write
            for write in found
            if write.agent == USER_AGENT
            and (namespace is None or write.namespace == namespace)
            and (user is None or write.user == user)
            and (events or write.resource != "events")
            and (leases or write.resource != "leases")
        ]


def _write(entry: dict[str, Any]) -> Write:
    reference = entry.get("objectRef") or {}
    return Write(
        user=entry["user"].get("username", ""),  # nobody, where a token has expired
        agent=entry.get("userAgent", ""),
        verb=entry["verb"],
        resource=reference.get("resource", ""),
        subresource=reference.get("subresource", ""),
        namespace=reference.get("namespace", ""),
        name=reference.get("name", ""),
        code=(entry.get("responseStatus") or {}).get("code", 0),
    )


@dataclass
class OperatorProcess:
    """One operator process. `environment` is over the defaults; `kubeconfig` says as whom it acts."""

    kubeconfig: Path
    directory: Path
    lease: str
    name: str = "operator-0"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = 0
    program: Path = field(default_factory=lambda: Path(sys.executable).with_name("agentservice-operator"))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, lead: bool = True, seconds: float = 150) -> OperatorProcess:
        """Start it and wait until it leads and has read everything (``lead``), or until it stands by."""
        (self.port,) = free_ports(1)
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "RUNTIME_IMAGE": "registry.example/agentservice-runtime:1",
            "POD_NAME": self.name,
            "POD_NAMESPACE": SYSTEM_NAMESPACE,
            "LEASE_NAME": self.lease,
            "HTTP_PORT": str(self.port),
            **self.environment,
        }
        with self.log_file.open("ab") as log:
            # ends with the tests, however they end
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", str(self.program)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually("the operator is ready", lambda: self._is_up(lead=lead), seconds=seconds, every=0.05)
        return self

    def stop(self, *, seconds: float = 20) -> int:
        """SIGTERM; return the exit code. Raises TimeoutExpired when it does not end in time."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=seconds)
        self._process = None
        return code

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self, *, seconds: float) -> int:
        """Wait for an end that nobody asked for; return the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout=seconds)
        self._process = None
        return code

    def start_again_if_it_lost_its_lease(self) -> bool:
        """As the kubelet would; any other end is a fault. Returns whether it had ended."""
        assert self._process is not None
        if self._process.poll() is None:
            return False
        assert self._process.returncode == 3, self.log
        self.start()
        return True

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def records(self) -> list[dict[str, Any]]:
        """The log's lines, every one of which is JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, series: str, /, **labels: str) -> float:
        """The sum of the series of this name that carry these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            found = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if (
                found
                and found[1] == series
                and all(f'{key}="{value}"' in (found[2] or "") for key, value in labels.items())
            ):
                total += float(found[3])
        return total

    @property
    def leads(self) -> bool:
        return self.metric("leader_election_master_status") == 1

    def _is_up(self, *, lead: bool) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"the operator ended with {code}:\n{self.log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                return not lead or self.leads
        except urllib.error.HTTPError:
            return False


@dataclass(frozen=True)
class Workbench:
    """One namespace of a real API server, and short words for what tests do in it."""

    plane: StandaloneControlPlane
    namespace: str

    @property
    def api(self) -> Api:
        return self.plane.api

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True):
        return self.plane.kubectl("--namespace", self.namespace, *arguments, stdin=stdin, check=check)

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        return "/" + "/".join(part for part in (COLLECTIONS[kind].format(self.namespace), name, subresource) if part)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.api.request("GET", self.path(kind, name))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        try:
            return self.get(kind, name)
        except RefusedError as refused:
            if refused.status == 404:
                return None
            raise

    def list(self, kind: str, *, of: str | None = None) -> list[dict[str, Any]]:
        """All objects of the kind; with ``of`` those that carry the label of this AgentService."""
        query = f"?labelSelector=agentservice.dev/name={of}" if of else ""
        return self.api.request("GET", self.path(kind) + query)["items"]

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.api.request("POST", self.path(kind), body)

    def delete(self, kind: str, name: str, *, propagation: str = "Background") -> None:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        self.api.request("DELETE", self.path(kind, name), options)

    def patch(self, kind: str, name: str, body: Any, *, how: str = "merge", subresource: str = "") -> dict[str, Any]:
        return self.api.request("PATCH", self.path(kind, name, subresource), body, content_type=PATCH_TYPES[how])

    def agent(
        self, name: str = "agent", *, annotations: Mapping[str, str] | None = None, **spec: Any
    ) -> dict[str, Any]:
        """Create an AgentService with the smallest specification and ``spec`` over it."""
        return self.create("AgentService", manifest(name, annotations=annotations, **spec))

    def annotate(self, name: str, **annotations: str | None) -> None:
        """Set annotations of agentservice.dev/, or take them away with None."""
        values = {f"agentservice.dev/{key}": value for key, value in annotations.items()}
        self.patch("AgentService", name, {"metadata": {"annotations": values}})

    def config_map(self, name: str = "agent") -> str:
        """The name of the configuration that the Deployment's pods mount."""
        pod = self.get("Deployment", name)["spec"]["template"]["spec"]
        return next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config")

    def condition(self, kind: str, name: str = "agent") -> dict[str, Any]:
        """The condition, with the status "absent" when there is none. Only one about the current generation counts."""
        live = self.get("AgentService", name)
        found = next((c for c in live["status"].get("conditions") or [] if c["type"] == kind), None)
        if found is None:
            assert live["status"]["observedGeneration"] == live["metadata"]["generation"]
            return {"type": kind, "status": "absent", "reason": "", "message": ""}
        assert found["observedGeneration"] == live["metadata"]["generation"], found
        return found

    def settles(self, kind: str, status: str, reason: str = "", *, name: str = "agent", seconds: float = 60) -> str:
        """Wait until the condition has the status and the reason; return its message."""

        def has() -> dict[str, Any]:
            found = self.condition(kind, name)
            assert found["status"] == status and reason in ("", found["reason"]), found
            return found

        return str(eventually(f"{name}: {kind}={status} {reason}", has, seconds=seconds)["message"])

    def serves(self, name: str = "agent") -> None:
        """Wait until the operator has made all children and has said so."""

        def has() -> bool:
            live = self.get("AgentService", name)
            return live["status"]["observedGeneration"] == live["metadata"]["generation"] and bool(
                self.find("Deployment", name)
            )

        eventually(f"{name} is reconciled", has)

    def quiet(self, audit: Audit, *, seconds: float = 1.0) -> None:
        """Wait until operators have written nothing here for so long."""
        seen, since = len(audit.writes(namespace=self.namespace)), time.monotonic()
        deadline = since + 60
        while time.monotonic() - since < seconds:
            assert time.monotonic() < deadline, f"still writing: {audit.writes(namespace=self.namespace)[-5:]}"
            time.sleep(0.1)
            now = len(audit.writes(namespace=self.namespace))
            if now != seen:
                seen, since = now, time.monotonic()

    def versions(self, name: str = "agent") -> dict[str, str]:
        """The resourceVersion of the AgentService and of each of its children."""
        objects = [("AgentService", self.get("AgentService", name))]
        objects += [(kind, live) for kind in CHILDREN for live in self.list(kind, of=name)]
        return {f"{kind}/{live['metadata']['name']}": live["metadata"]["resourceVersion"] for kind, live in objects}


def manifest(name: str, *, annotations: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "agentservice.dev/v1alpha1",
        "kind": "AgentService",
        "metadata": {"name": name, "annotations": dict(annotations or {})},
        "spec": {"agent": {"instructions": "Answer briefly."}, "model": {"name": "test"}, **spec},
    }


def ensure_namespace(plane: StandaloneControlPlane, name: str) -> None:
    try:
        plane.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    except RefusedError as refused:
        if refused.status != 409:
            raise


@contextmanager
def operators(
    plane: StandaloneControlPlane, directory: Path, *, lease: str
) -> Iterator[Callable[..., OperatorProcess]]:
    """Make operator processes (not started yet) of one installation; what still runs at the end is killed."""
    ensure_namespace(plane, SYSTEM_NAMESPACE)
    made: list[OperatorProcess] = []

    def make(*, kubeconfig: Path | None = None, **environment: str) -> OperatorProcess:
        made.append(
            OperatorProcess(
                kubeconfig=kubeconfig or plane.kubeconfig,
                directory=directory,
                lease=lease,
                name=f"operator-{len(made)}",
                environment=environment,
            )
        )
        return made[-1]

    try:
        yield make
    finally:
        for process in made:
            process.kill()
