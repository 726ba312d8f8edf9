"""Decides where the programs are measured: an API server of their own each, warm, with nobody else on it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.apiserver.operator_process import USER_AGENT, OperatorProcess, ensure_namespace, operators
from tests.bench.operator.bodies import IMAGE, Bodies, bodies
from tests.bench.operator.process import Meter, cpu_seconds, megabytes
from tests.bench.operator.programs import Programs
from tests.bench.operator.timeline import Timeline, Write

from devcluster.settings import REPOSITORY
from devcluster.standalone import StandaloneControlPlane

NAMESPACE = "bench"
WARM_UP = 20


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One API server and what is needed to act on it."""

    plane: StandaloneControlPlane
    programs: Programs
    directory: Path
    timeline: Timeline
    bodies: Bodies
    operator: Path
    """The operator's entry point."""

    def send(self, mode: str, n: int, *, namespace: str = NAMESPACE, prefix: str = "agent", patch: str = "{}") -> Any:
        """Run the limit client to its end. Raises CalledProcessError when a request failed."""
        done = subprocess.run(
            [
                *(str(self.programs.limit), f"-kubeconfig={self.plane.kubeconfig}", f"-mode={mode}", f"-n={n}"),
                *(f"-prefix={prefix}", f"-patch={patch}", f"-bodies={self._file(namespace)}"),
            ],
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout)

    def _file(self, namespace: str) -> Path:
        return bodies(namespace).write(self.directory / f"bodies-{namespace}.json")

    def meter(self, **further: int) -> Meter:
        return Meter({"apiserver": self.plane.pid("kube-apiserver"), "etcd": self.plane.pid("etcd"), **further})


@contextlib.contextmanager
def stage(*, binary: Path, programs: Programs, operator: Path) -> Iterator[Stage]:
    """A fresh API server that has built its conversions: the first writes of each kind cost many times the later ones."""
    definitions = sorted((REPOSITORY / "crds").glob("*.yaml"))
    with (
        tempfile.TemporaryDirectory() as directory,
        StandaloneControlPlane(binary=binary, definitions=definitions, controllers=False) as plane,
    ):
        for namespace in (NAMESPACE, "single", "warm"):
            ensure_namespace(plane, namespace)
        made = Stage(
            plane=plane,
            programs=programs,
            directory=Path(directory),
            timeline=Timeline(plane.audit_log),
            bodies=bodies(NAMESPACE),
            operator=operator,
        )
        for mode, prefix in (("apply", "first"), ("create", "second")):
            made.send(mode, WARM_UP, namespace="warm", prefix=prefix)
        made.send("delete", 0, namespace="warm")
        made.timeline.forget()
        yield made


@contextlib.contextmanager
def ours(on: Stage) -> Iterator[OperatorProcess]:
    """The operator, leading."""
    with operators(on.plane, on.directory, lease="bench") as make:
        process = make(RUNTIME_IMAGE=IMAGE)
        process.program = on.operator
        yield process.start()
        process.stop()


@contextlib.contextmanager
def baseline(on: Stage) -> Iterator[int]:
    """The controller-runtime operator, its caches filled; its process id."""
    log = on.directory / "baseline.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", str(on.programs.baseline), f"-kinds={','.join(on.bodies.kinds)}"),
                f"-ledger={str('AgentLedger' in on.bodies.further).lower()}",
            ],
            env={"KUBECONFIG": str(on.plane.kubeconfig), "HOME": str(on.directory), "PATH": "/usr/bin:/bin"},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 60
    while "Starting workers" not in log.read_text():
        if time.monotonic() > deadline or process.poll() is not None:
            raise RuntimeError(f"the baseline does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@dataclass(frozen=True, kw_only=True)
class Creation:
    """What it took until N resources had their children and a status. CPU in milliseconds per resource, memory in megabytes."""

    writes: list[Write]
    seconds: float
    children_per_second: float
    cpu_ms: float
    apiserver_cpu_ms: float
    peak_megabytes: float


def create(on: Stage, n: int, *, agent: str, pid: int | None = None, mode: str = "resources") -> Creation:
    """Create N resources and wait until the program ``agent`` has done what it does about them."""
    on.timeline.forget()
    meter = on.meter(**({"program": pid} if pid else {}))
    answer = on.send(mode, n)

    def written() -> int:
        return sum(w.succeeded and w.resource != "agentservices" for w in on.timeline.of(agent))

    # Seldom: reading the log takes processor time from what is measured, and its own stamps say when things happened.
    on.timeline.until(lambda: written() >= on.bodies.writes * n, seconds=3600, quiet=20, every=1.0)
    cpu = meter.seconds("program") if pid else float(answer["cpu_seconds"])
    server = meter.seconds("apiserver") + meter.seconds("etcd")
    writes = on.timeline.of(agent)
    posted = [w for w in on.timeline.writes if w.resource == "agentservices" and w.verb == "create"]
    seconds = max(w.ended for w in writes) - min(w.began for w in posted)
    return Creation(
        writes=writes,
        seconds=seconds,
        children_per_second=len(on.bodies.kinds) * n / seconds,
        cpu_ms=cpu / n * 1000,
        apiserver_cpu_ms=server / n * 1000,
        peak_megabytes=megabytes(pid, peak=True) if pid else 0.0,
    )


__all__ = ["USER_AGENT", "Creation", "Stage", "baseline", "cpu_seconds", "create", "ours", "stage"]
