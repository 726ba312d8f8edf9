"""A stand-in for the kubelet where there are no nodes: it says of pods what a real one would, and nothing else.

Deployments, ReplicaSets and pods are real; only what a container does is invented here. The words are those of the kubelet
1.36, as seen on a real node.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from devcluster.api import RefusedError

from .operator_process import Workbench

Pod = dict[str, Any]
Behaviour = Callable[[Pod], dict[str, Any]]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(pod: Pod, state: dict[str, Any], *, phase: str, ready: bool = False, **container: Any) -> dict[str, Any]:
    name = pod["spec"]["containers"][0]["name"]
    image = pod["spec"]["containers"][0]["image"]
    serves = "True" if ready else "False"
    return {
        "phase": phase,
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": serves},
            {"type": "Ready", "status": serves},
        ],
        "containerStatuses": [
            {
                "name": name,
                "image": image,
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "started": ready,
                "state": state,
                **container,
            }
        ],
    }


def running(pod: Pod) -> dict[str, Any]:
    """It serves."""
    return _status(pod, {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}, phase="Running", ready=True)


def starting(pod: Pod) -> dict[str, Any]:
    """It runs and is not ready yet."""
    return _status(pod, {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}, phase="Running")


def _waiting(reason: str, message: str) -> Behaviour:
    return lambda pod: _status(pod, {"waiting": {"reason": reason, "message": message}}, phase="Pending")


creating = _waiting("ContainerCreating", "")


def image_missing(pod: Pod) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    return _waiting("ImagePullBackOff", f'Back-off pulling image "{image}"')(pod)


def secret_missing(name: str) -> Behaviour:
    """For a Secret that an environment variable refers to."""
    return _waiting("CreateContainerConfigError", f'secret "{name}" not found')


def secret_key_missing(name: str, key: str) -> Behaviour:
    def behaviour(pod: Pod) -> dict[str, Any]:
        message = f"couldn't find key {key} in Secret {pod['metadata']['namespace']}/{name}"
        return _waiting("CreateContainerConfigError", message)(pod)

    return behaviour


def crashing(code: int, *, message: str = "") -> Behaviour:
    """It ended three times and waits to be started again."""
    ended = {"exitCode": code, "reason": "Error", "message": message}

    def behaviour(pod: Pod) -> dict[str, Any]:
        at = {"startedAt": pod["metadata"]["creationTimestamp"], "finishedAt": pod["metadata"]["creationTimestamp"]}
        return _status(
            pod,
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            phase="Running",
            restartCount=3,
            lastState={"terminated": {**ended, **at}},
        )

    return behaviour


def unschedulable(pod: Pod) -> dict[str, Any]:
    """The scheduler's words: no kubelet has it."""
    message = "0/3 nodes are available: 3 Insufficient memory."
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }


class FakeKubelet:
    """Gives each pod of a namespace the status that `behave` says, until `stop`. `behave` may be replaced at any time."""

    def __init__(self, at: Workbench, behave: Behaviour = running) -> None:
        self.behave = behave
        self._at = at
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake kubelet", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def cannot_mount(self, pod: Pod, message: str) -> None:
        """The Event with which a kubelet says that a volume cannot be mounted."""
        metadata = pod["metadata"]
        regarding = {"apiVersion": "v1", "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}  # fmt: skip
        self._at.create(
            "Event",
            {
                "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"},
                "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "type": "Warning",
                "reason": "FailedMount",
                "action": "Mount",
                "note": message,
                "regarding": regarding,
                "reportingController": "kubelet",
                "reportingInstance": "node-1",
            },
        )

    def _run(self) -> None:
        while not self._stopping.wait(0.1):
            # a pod may be gone by now, and the API server may be down: the next round sees
            with contextlib.suppress(RefusedError, OSError, http.client.HTTPException):
                self._round()

    def _round(self) -> None:
        for pod in self._at.list("Pod"):
            wanted = self.behave(pod)
            if not pod["metadata"].get("deletionTimestamp") and _says(pod["status"]) != _says(wanted):
                dated = [{**condition, "lastTransitionTime": _now()} for condition in wanted["conditions"]]
                status = {"containerStatuses": None, **wanted, "conditions": dated}
                self._at.patch("Pod", pod["metadata"]["name"], {"status": status}, subresource="status")


def _says(status: dict[str, Any]) -> Any:
    conditions = {(c["type"], c["status"]) for c in status.get("conditions") or []}
    containers = [
        (c["ready"], c["restartCount"], repr(sorted(c["state"].items())), repr(c.get("lastState") or {}))
        for c in status.get("containerStatuses") or []
    ]
    return status.get("phase"), conditions, containers


@contextlib.contextmanager
def kubelet(at: Workbench, behave: Behaviour = running) -> Iterator[FakeKubelet]:
    """A kubelet for the pods of one namespace."""
    made = FakeKubelet(at, behave)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def by_revision(new: Behaviour, *, old: str) -> Behaviour:
    """Pods of the revision `old` run, all others behave as `new`."""
    return lambda pod: (running if pod["metadata"]["labels"].get("agentservice.dev/revision") == old else new)(pod)
