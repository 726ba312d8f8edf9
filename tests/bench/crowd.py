"""What many AgentServices cost: until they are made, until they are ready, at rest, and when the operator starts again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.apiserver.fake_kubelet import running
from tests.apiserver.operator_process import Audit, OperatorProcess, Workbench, eventually
from tests.bench.operator.process import cpu_seconds, megabytes

from devcluster.standalone import StandaloneControlPlane, new_namespace

NUMBER = 200
REST_SECONDS = 60


def measure(plane: StandaloneControlPlane, operator: OperatorProcess) -> Iterator[str]:
    at = Workbench(plane, new_namespace(plane.api, "crowd"))
    audit = Audit(plane)
    names = [f"agent-{index:03}" for index in range(NUMBER)]
    empty = megabytes(operator.pid)
    yield f"\n{NUMBER} AgentServices"
    yield "| what | figure |"
    yield "|---|---|"

    cpu, began = cpu_seconds(operator.pid), time.monotonic()
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(at.agent, names))
    posted = time.monotonic() - began
    eventually("all are reconciled", lambda: _observed(at) == NUMBER, seconds=600, every=0.5)
    made = time.monotonic() - began
    at.quiet(audit, seconds=5)
    used = cpu_seconds(operator.pid) - cpu
    yield f"| applied by 4 clients in | {posted:.1f} s |"
    yield f"| all children made and reported after | {made:.1f} s |"
    yield f"| CPU of the operator per resource, made | {used / NUMBER * 1000:.1f} ms |"
    yield from _writes(audit, at, "until made")

    audit.forget()
    cpu, began = cpu_seconds(operator.pid), time.monotonic()
    pods = eventually("the pods", lambda: len(found := at.list("Pod")) == NUMBER and found, seconds=120)
    for pod in pods:
        at.patch("Pod", pod["metadata"]["name"], {"status": running(pod)}, subresource="status")
    eventually("all are ready", lambda: _ready(at) == NUMBER, seconds=600, every=0.5)
    at.quiet(audit, seconds=5)
    used = cpu_seconds(operator.pid) - cpu
    yield f"| CPU of the operator per resource, made ready | {used / NUMBER * 1000:.1f} ms |"
    yield from _writes(audit, at, "from made to ready")
    yield f"| RSS without resources, with {NUMBER} | {empty:.0f} MB, {megabytes(operator.pid):.0f} MB |"

    audit.forget()
    cpu = cpu_seconds(operator.pid)
    time.sleep(REST_SECONDS)
    used = cpu_seconds(operator.pid) - cpu
    yield f"| at rest, writes in {REST_SECONDS} s but the Lease's | {len(_all(audit))} |"
    yield f"| at rest, CPU | {used / REST_SECONDS * 1000:.1f} ms/s |"

    operator.stop()
    audit.forget()
    began = time.monotonic()
    operator.start()
    started = time.monotonic() - began
    done = "controller_runtime_reconcile_total"
    eventually("each was looked at", lambda: operator.metric(done, result="success") >= NUMBER, seconds=120)
    looked = time.monotonic() - began
    used = cpu_seconds(operator.pid)
    at.quiet(audit, seconds=5)
    yield f"| restart: leads and has read everything after | {started:.1f} s |"
    yield f"| restart: has looked at each after | {looked:.1f} s |"
    yield f"| restart: CPU, imports included | {used:.1f} s |"
    yield f"| restart: writes but the Lease's | {len(_all(audit))} |"

    audit.forget()
    began = time.monotonic()
    for name in names:
        at.patch("AgentService", name, {"spec": {"network": {"service": {"port": 8080}}}})
    eventually("all are changed", lambda: _observed(at) == NUMBER, seconds=600, every=0.5)
    at.quiet(audit, seconds=5)
    yield f"| one field of each changed by one client, carried out after | {time.monotonic() - began - 5:.1f} s |"
    yield from _writes(audit, at, "for the change")

    began = time.monotonic()
    at.api.request("DELETE", at.path("AgentService"), timeout=300)
    eventually("all are gone", lambda: not any(at.list(kind) for kind in ("Deployment", "Service")), seconds=300)
    yield f"| all deleted, children gone after | {time.monotonic() - began:.1f} s |"


def _observed(at: Workbench) -> int:
    return sum(
        live["status"]["observedGeneration"] == live["metadata"]["generation"] for live in at.list("AgentService")
    )


def _ready(at: Workbench) -> int:
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in live["status"].get("conditions") or [])
        for live in at.list("AgentService")
    )


def _all(audit: Audit) -> list[object]:
    return list(audit.writes(events=True))


def _writes(audit: Audit, at: Workbench, what: str) -> Iterator[str]:
    counted = Counter(
        f"{write.verb} {write.resource}{'/' + write.subresource if write.subresource else ''}"
        for write in audit.writes(namespace=at.namespace, events=True)
    )
    for write, number in sorted(counted.items()):
        yield f"| writes per resource {what}: {write} | {number / NUMBER:.2f} |"
