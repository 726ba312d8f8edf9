"""The pod from which tests call agents, and the figures of what its calls met."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kube import Kube, Manifest, is_pod_ready
from .waiting import wait

NAME = "caller"
LOAD = "load.py"
SPEND = "spend.py"
CHAT = "chat.py"
REACH = "reach.py"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One request's or stream's fate. Times are the pod's clock, in seconds since the epoch."""

    kind: str
    url: str
    ok: bool
    began: float
    ended: float
    kept: bool
    status: int | None = None
    answer: Any = None
    error: str | None = None
    deltas: int = 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """What all calls of one load met. Shown in a line, because there are thousands."""

    outcomes: tuple[Outcome, ...]

    @property
    def runs(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.kind == "run")

    @property
    def streams(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.kind == "stream")

    @property
    def failed(self) -> Counter[str]:
        """How often each failure was met; false when none was."""
        return Counter(
            f"{o.kind} of {o.url}{' over a kept connection' if o.kept else ''}: {o.status or ''} {o.error}"
            for o in self.outcomes
            if not o.ok
        )

    def __repr__(self) -> str:
        took = sorted(o.ended - o.began for o in self.runs) or [0.0]
        return (
            f"{len(self.runs)} requests, {len(self.streams)} streams, {self.failed.total()} failed {dict(self.failed) or ''}; "
            f"p50 {took[len(took) // 2]:.3f} s, p99 {took[len(took) * 99 // 100]:.3f} s, slowest {took[-1]:.3f} s"
        )


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What OpenAI's SDK met."""

    counts: Counter[str]
    """`served`, `refused` with 429, `http_requests`, and one entry for each other failure."""
    refusals: tuple[dict[str, str], ...]
    """Of each 429 `retry-after`, `x-should-retry` and the `body`."""


class Load:
    """A running load; `with` ends it, and then `report` is complete."""

    def __init__(self, command: list[str]) -> None:
        self._outcomes: list[Outcome] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Report:
        """Start no more calls, wait for the open ones. Raises AssertionError when the generator itself failed."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        code = self._process.wait(timeout=120)
        self._reader.join(timeout=10)
        assert code == 0, f"the load generator failed: {''.join(self._said)}"
        return self.report

    @property
    def report(self) -> Report:
        return Report(outcomes=tuple(self._outcomes))

    def last(self, kind: str, *, url: str | None = None) -> Outcome | None:
        return next((o for o in reversed(self._outcomes) if o.kind == kind and url in (None, o.url)), None)

    def wait_for(self, text: str, *, kind: str = "run", url: str | None = None, seconds: float = 60) -> Outcome:
        """Wait until a call of a kind (to `url`) ends after now and the latest one was answered with `text` in it."""
        seen = self.last(kind, url=url)

        def look() -> Outcome | None:
            last = self.last(kind, url=url)
            return last if last is not None and last is not seen and text in str(last.answer) else None

        def why() -> str:
            return f"{self.last(kind, url=url)}; {self.report}"

        return wait(f"a {kind} answers {text!r}", look, seconds=seconds, why=why)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._outcomes.append(Outcome(**json.loads(line)))
            else:
                self._said.append(line)


class Caller:
    """A pod that runs `load.py`; it answers to the runtime image's Python."""

    def __init__(self, kube: Kube, *, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    def start(self, *, image: str) -> None:
        """Make the pod. Returns before it runs."""
        self._kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": NAME, "namespace": self._namespace},
                "data": {name: Path(__file__).with_name(name).read_text() for name in (LOAD, SPEND, CHAT, REACH)},
            },
            _pod(self._namespace, image=image),
        )

    def wait_ready(self) -> None:
        def ready() -> bool:
            pod = self._kube.get("Pod", self._namespace, NAME)
            return pod is not None and is_pod_ready(pod)

        wait(
            "the caller's pod runs",
            ready,
            seconds=120,
            why=lambda: self._kube.kubectl("-n", self._namespace, "describe", "pod", NAME),
        )

    def load(
        self, *urls: str, rate: float = 0, streams: int = 0, headers: dict[str, str] | None = None, body: Any = None
    ) -> Load:
        """Begin to call the agents at `urls`: `rate` requests a second in turn, `streams` open at any moment to the first."""
        given = [f"--body={json.dumps(body)}"] if body is not None else []
        return Load(self._command(*urls, f"--rate={rate}", f"--streams={streams}", *given, headers=headers))

    def ask(
        self, url: str, body: Any = None, *, headers: dict[str, str] | None = None, times: int = 1
    ) -> list[Outcome]:
        """Ask `times` times at once and return the answers."""
        given = [f"--body={json.dumps(body)}"] if body is not None else []
        load = Load(self._command(url, f"--requests={times}", *given, headers=headers))
        return list(load.stop().outcomes)

    def spend(self, url: str, body: Any, *, requests: int, clients: int) -> Spent:
        """Ask through OpenAI's SDK, by so many clients at once, until all requests have been sent."""
        options = [f"--requests={requests}", f"--clients={clients}", f"--body={json.dumps(body)}"]
        said = self._kube.kubectl(*self._program(SPEND), url, *options).splitlines()[-1]
        found = json.loads(said)
        return Spent(counts=Counter(found["counts"]), refusals=tuple(found["refusals"]))

    def chat(self, url: str, text: str) -> dict[str, Any]:
        """Talk through OpenAI's SDK: the `model` that there is, what it `said` piece by piece, and the `usage`."""
        return json.loads(self._kube.kubectl(*self._program(CHAT), url, text).splitlines()[-1])

    def _command(self, *arguments: str, headers: dict[str, str] | None) -> list[str]:
        given = [f"--header={name}: {value}" for name, value in (headers or {}).items()]
        return [*self._kube.command, *self._program(LOAD), *arguments, *given]

    def _program(self, name: str) -> list[str]:
        return ["--namespace", self._namespace, "exec", "-i", NAME, "--", "python", f"/srv/load/{name}"]


def _pod(namespace: str, *, image: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": NAME,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", "import signal; signal.sigwait({signal.SIGTERM})"],
                    "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "load", "mountPath": "/srv/load", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "load", "configMap": {"name": NAME}}],
        },
    }
