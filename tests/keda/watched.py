"""Every state that an object had, as a watch tells it: who only looks now and then may miss one."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Self

from tests.cluster.pods.kube import Kube, Manifest, condition
from tests.cluster.pods.waiting import wait


@dataclass(frozen=True, kw_only=True)
class State:
    """One state of the object."""

    live: Manifest
    heard: float
    """Seconds of the monotonic clock."""

    @property
    def count(self) -> int:
        """How many pods a Deployment is given."""
        return self.live["spec"]["replicas"]

    @property
    def owners(self) -> set[str]:
        """The field managers of that number."""
        entries = self.live["metadata"]["managedFields"]
        return {e["manager"] for e in entries if "f:replicas" in e["fieldsV1"].get("f:spec", {})}

    def reason(self, kind: str) -> str:
        """The reason of a condition, empty without it."""
        return condition(self.live, kind).get("reason", "")


class Watched:
    """The states of an object since this was made; `with` ends the watch."""

    def __init__(self, kube: Kube, kind: str, namespace: str, name: str) -> None:
        self._kube, self._kind, self._namespace, self._name = kube, kind, namespace, name
        first = self._live()
        self._all = [State(live=first, heard=time.monotonic())]
        query = f"?watch=1&fieldSelector=metadata.name={name}&resourceVersion={first['metadata']['resourceVersion']}"
        self._watch = subprocess.Popen(
            [*kube.command, "get", "--raw", kube.path(kind, namespace) + query],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._trouble: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.terminate()
        self._watch.wait(timeout=10)
        self._reader.join(timeout=10)

    def all(self) -> list[State]:
        """All states up to now, once the watch has told of the object as it is."""

        def is_told() -> bool:
            return self._all[-1].live["metadata"]["resourceVersion"] == self._live()["metadata"]["resourceVersion"]

        wait("the watch tells of the object as it is", is_told, seconds=120, why=self.explain)
        assert not self._trouble, self._trouble
        return list(self._all)

    def explain(self) -> str:
        """What helps to see why it is as it is."""
        asked = ("-n", self._namespace, "get", "scaledobjects,hpa,deployments,pods,events")
        said = self._kube.kubectl(*asked, check=False)
        log = self._kube.kubectl("-n", "keda", "logs", "deployment/keda-operator", "--tail=20", check=False)
        return f"{json.dumps(self._live(), indent=1)}\n{self._trouble}\n{said}\n{log}"

    def _live(self) -> Manifest:
        found = self._kube.get(self._kind, self._namespace, self._name)
        assert found is not None, f"there is no {self._kind} {self._name}"
        return found

    def _read(self) -> None:
        assert self._watch.stdout is not None
        for line in self._watch.stdout:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("type") in {"ADDED", "MODIFIED"}:
                self._all.append(State(live=event["object"], heard=time.monotonic()))
            elif event.get("type") != "DELETED":
                self._trouble.append(line)


class Counts(Watched):
    """The numbers of pods that a Deployment is given."""

    def __init__(self, kube: Kube, namespace: str, deployment: str) -> None:
        super().__init__(kube, "Deployment", namespace, deployment)

    @property
    def last(self) -> int:
        return self._all[-1].count

    def numbers(self) -> list[int]:
        """The numbers one after the other, without repetitions."""
        counts = [state.count for state in self.all()]
        return [now for before, now in zip([None, *counts], counts, strict=False) if now != before]

    def wait_for(self, count: int, *, seconds: float) -> State:
        """Wait until the number is `count`, and return the first state that says so."""
        wait(f"{self._name} is given {count} pods", lambda: self.last == count, seconds=seconds, why=self.explain)
        found = self._all[-1]
        for state in reversed(self._all):
            if state.count != count:
                break
            found = state
        return found
