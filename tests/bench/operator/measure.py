"""Decides what is measured at one size, and in which order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

from tests.apiserver.operator_process import OperatorProcess
from tests.bench.operator import drift
from tests.bench.operator.figures import Figures
from tests.bench.operator.process import cpu_seconds, megabytes
from tests.bench.operator.programs import Programs
from tests.bench.operator.scene import (
    NAMESPACE,
    USER_AGENT,
    Creation,
    Stage,
    baseline,
    create,
    ours,
    stage,
)
from tests.bench.operator.timeline import Write, by_kind

DETAILED = 1000
"""The size at which everything is measured; at the others what depends on the size most."""
REST_SECONDS = {True: 120, False: 30}
DRIFT_TRIES = 20
BUDGET = {"daily": {"tokens": 2_000_000, "costUSD": "25.00"}, "monthly": {"tokens": 40_000_000}}
PRICED = {"name": "test", "pricing": {"inputPerMillionUSD": "0.15", "outputPerMillionUSD": "0.60"}}
BUDGETED = ("Role", "RoleBinding")
"""Kinds of children that only an agent with a budget has."""
BULK = 1000
SINGLES = 5
SINGLE_EVERY_SECONDS = 1.0
"""Five of them are over before half of the crowd is made."""
DRIFTER = "single"

Say = Callable[[str], None]


LIMIT, PLAIN, OURS = "the limit client: applies", "a controller-runtime operator", "ours"
ORDERS = ((OURS, LIMIT, PLAIN), (PLAIN, OURS, LIMIT), (LIMIT, PLAIN, OURS))
"""Of the rounds. The machine is faster at one minute than at another: each program is compared with those of its own round, and has each place once."""


def measure(size: int, *, binary: Path, programs: Programs, operator: Path, say: Say) -> Figures:
    """Measure the limit, the baseline and ours with ``size`` resources; ``say`` gets the lines of the report."""
    begin = partial(stage, binary=binary, programs=programs, operator=operator)
    rounds: list[dict[str, Creation]] = []
    with begin() as on:
        kinds, further = on.bodies.kinds, on.bodies.further
        say(f"\n## {size} AgentServices")
        say(f"\n{len(kinds)} children each ({', '.join(kinds)}), and {', '.join(further)}: {on.bodies.writes} writes")
        say(f"bytes of JSON: {', '.join(f'{kind} {size}' for kind, size in on.bodies.sizes.items())}\n")
        say("| creation by | children/s | CPU ms per resource | with API server and etcd | peak MB |")
        say("|---|---|---|---|---|")
        say(_row("the limit client: POSTs", create(on, size, agent="bench-limit", mode="create")))
    for order in ORDERS if size == DETAILED else ORDERS[-1:]:
        rounds.append({})
        for who in order:
            if order is ORDERS[-1] and who is OURS:
                continue
            rounds[-1][who] = _created(who, size, begin)
            say(_row(who, rounds[-1][who]))
    with begin() as on, ours(on) as process:
        empty = megabytes(process.pid)
        made = rounds[-1][OURS] = create(on, size, agent=USER_AGENT, pid=process.pid)
        say(_row(OURS, made))
        on.timeline.rest(seconds=3)
        writes = mean(len(each[OURS].writes) for each in rounds) / size
        found = _compared(rounds) | {
            "writes per resource": writes,
            "writes beyond those needed": writes - on.bodies.writes,
            "MB empty": empty,
        }
        _say_all(say, found)
        for line, figures in _life(on, process, size):
            found |= figures
            say(line)
    return found


def _created(who: str, size: int, begin: Callable[[], AbstractContextManager[Stage]]) -> Creation:
    with begin() as on:
        if who is LIMIT:
            return create(on, size, agent="bench-limit", mode="apply")
        if who is PLAIN:
            with baseline(on) as pid:
                return create(on, size, agent="bench-baseline", pid=pid)
        with ours(on) as process:
            return create(on, size, agent=USER_AGENT, pid=process.pid)


def _compared(rounds: Sequence[Mapping[str, Creation]]) -> Figures:
    """Ratios are means over the rounds, each of two programs of one round; the others are medians."""

    def ratio(of: Callable[[Creation], float], one: str, other: str) -> float:
        return geometric_mean(of(each[one]) / of(each[other]) for each in rounds)

    def rate(creation: Creation) -> float:
        return creation.children_per_second

    def cpu(creation: Creation) -> float:
        return creation.cpu_ms

    return {
        "rate / limit": ratio(rate, OURS, LIMIT),
        "rate / baseline": ratio(rate, OURS, PLAIN),
        "all CPU: limit / ours": ratio(_all_cpu, LIMIT, OURS),
        "all CPU: baseline / ours": ratio(_all_cpu, PLAIN, OURS),
        "children per second": median(each[OURS].children_per_second for each in rounds),
        "CPU ms per resource": median(each[OURS].cpu_ms for each in rounds),
        "CPU ms per resource / baseline": ratio(cpu, OURS, PLAIN),
    }


def _row(who: str, creation: Creation) -> str:
    return (
        f"| {who} | {creation.children_per_second:.0f} | {creation.cpu_ms:.1f} | {_all_cpu(creation):.1f} "
        f"| {creation.peak_megabytes:.0f} |"
    )


def _all_cpu(creation: Creation) -> float:
    return creation.cpu_ms + creation.apiserver_cpu_ms


def _say_all(say: Say, figures: Figures) -> None:
    say("\n| figure | value |")
    say("|---|---|")
    for name, value in figures.items():
        say(f"| {name} | {value:.3g} |")


def _life(on: Stage, process: OperatorProcess, size: int) -> Iterator[tuple[str, Figures]]:
    """What comes after the creation, one row and its figures at a time."""

    def row(name: str, value: float, note: str = "") -> tuple[str, Figures]:
        return f"| {name}{note} | {value:.3g} |", {name: value}

    detailed = size == DETAILED
    on.timeline.rest(seconds=3, but=("leases",))  # Events come last: they wait while there is work
    on.timeline.forget()
    rest, cpu = REST_SECONDS[detailed], cpu_seconds(process.pid)
    time.sleep(rest)
    on.timeline.poll()
    yield row("writes at rest", _unasked(on), f" in {rest} s, the Lease's apart")
    yield row("CPU ms per second at rest", (cpu_seconds(process.pid) - cpu) / rest * 1000)

    for name, port in (("writes per change, the first", 8081), ("writes per change", 8082)):
        per_resource, seconds, note = _change(on, size, port)
        yield row(name, per_resource, f" ({note})")
        yield row(f"seconds of all changes{', the first' if 'first' in name else ''}", seconds)
    yield row("peak MB", megabytes(process.pid, peak=True), " of the process that made them")

    process.stop()
    on.timeline.forget()
    began = time.monotonic()
    process.start()
    started = time.monotonic() - began
    while process.metric("controller_runtime_reconcile_total") < size:
        time.sleep(0.05)
    settled = time.monotonic() - began
    cpu = cpu_seconds(process.pid)
    time.sleep(5)
    on.timeline.poll()
    yield row("seconds until a restarted one leads", started)
    yield row("seconds until a restarted one has settled", settled)
    yield row("CPU seconds of a restart", cpu)
    yield row("writes at a restart", _unasked(on))
    yield row("peak MB of a restart", megabytes(process.pid, peak=True))
    if detailed:
        yield from _drift(on)
        yield from _latency(on)
        yield row("peak MB of all", megabytes(process.pid, peak=True), f" with {size + BULK} in the end")


def _unasked(on: Stage) -> int:
    return sum(w.agent == USER_AGENT and w.resource != "leases" for w in on.timeline.writes)


def _change(on: Stage, size: int, port: int) -> tuple[float, float, str]:
    on.timeline.forget()
    on.send("patch", size, patch=f'{{"spec":{{"network":{{"service":{{"port":{port}}}}}}}}}')

    def reported() -> int:
        return sum(w.resource == "agentservices/status" and w.succeeded for w in on.timeline.of(USER_AGENT))

    on.timeline.until(lambda: reported() >= size, seconds=1800, quiet=30)
    on.timeline.rest(seconds=3)
    writes = on.timeline.of(USER_AGENT)
    began = min(w.began for w in on.timeline.writes if w.agent == "bench-limit")
    kinds = ", ".join(f"{what}: {count / size:.2f}" for what, count in sorted(by_kind(writes).items()))
    return len(writes) / size, max(w.ended for w in writes) - began, kinds


def _drift(on: Stage) -> Iterator[tuple[str, Figures]]:
    on.timeline.forget()
    _post_single(on, DRIFTER, "drifter", further={"budget": BUDGET, "model": PRICED})
    on.timeline.until(lambda: any(_reports(w, DRIFTER) for w in on.timeline.writes), seconds=60, quiet=30)
    on.timeline.rest(seconds=2)
    worst: Counter[str] = Counter()
    for healing in drift.measure(on.plane.api, DRIFTER, "drifter", (*on.bodies.kinds, *BUDGETED), tries=DRIFT_TRIES):
        name = f"drift p95 ms: {healing.what}"
        worst[name] = max(worst[name], round(healing.p95))
        yield f"| drift: {healing.kind} {healing.what}: p50, p95 ms | {healing.p50:.0f}, {healing.p95:.0f} |", {}
    for name, value in worst.items():
        yield f"| {name}, of the slowest kind | {value} |", {name: float(value)}


def _reports(write: Write, namespace: str) -> bool:
    return write.resource == "agentservices/status" and write.namespace == namespace and write.succeeded


def _latency(on: Stage) -> Iterator[tuple[str, Figures]]:
    """While many are being made: how long a single one takes, in another namespace and in the same one."""
    for where, namespace in (("another namespace", "single"), ("the same namespace", NAMESPACE)):
        late, crowd, left = _beside_a_crowd(on, namespace)
        name = f"seconds until a single one in {where} is applied"
        note = f" (the slowest of {SINGLES}; {left} of {BULK} still waited after the last)"
        yield f"| {name}{note} | {late:.2g} |", {name: late}
        share = f"the same / seconds until the crowd is, in {where}"
        yield f"| {share} | {late / crowd:.2g} |", {share: late / crowd}


def _beside_a_crowd(on: Stage, namespace: str) -> tuple[float, float, int]:
    """The seconds that the slowest single one took and those of the crowd, and how many of it were reported after the last single one."""
    on.timeline.forget()
    prefix = f"bulk-{namespace}"
    # In two seconds. One that is made meanwhile in the same namespace is one of the crowd, and waits as they do.
    on.send("resources", BULK, prefix=prefix)
    for number in range(SINGLES):
        _post_single(on, namespace, f"single-{number}")
        time.sleep(SINGLE_EVERY_SECONDS)

    def reported() -> list[float]:
        return [
            w.ended
            for w in on.timeline.of(USER_AGENT)
            if w.resource == "agentservices/status" and w.name.startswith(prefix) and w.succeeded
        ]

    on.timeline.until(lambda: len(reported()) >= BULK, seconds=1800, quiet=30)
    on.timeline.rest(seconds=2)
    late = [_took(on, namespace, f"single-{number}") for number in range(SINGLES)]
    began = min(w.began for w in on.timeline.writes if w.resource == "agentservices" and w.name.startswith(prefix))
    left = sum(ended > late[-1][1] for ended in reported())
    return max(took for took, _ in late), max(reported()) - began, left


def _post_single(on: Stage, namespace: str, name: str, further: Mapping[str, Any] | None = None) -> None:
    manifest = on.bodies.content["resource"]["manifest"]
    path = on.bodies.content["resource"]["path"].replace(f"/{NAMESPACE}/", f"/{namespace}/")
    body = {
        **manifest,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**manifest["spec"], **(further or {})},
    }
    on.plane.api.request("POST", path, body)


def _took(on: Stage, namespace: str, name: str) -> tuple[float, float]:
    """Seconds from the POST of the AgentService to its status, and the time of the latter."""
    mine = [w for w in on.timeline.writes if w.namespace == namespace and w.name == name]
    began = next(w.began for w in mine if w.resource == "agentservices" and w.verb == "create")
    ended = min(w.ended for w in mine if w.resource == "agentservices/status" and w.succeeded)
    return ended - began, ended
