"""What is known of a native cluster between two commands: one file in its run directory, written before anything is made."""

import enum
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from devcluster.addresses import Plan


@dataclass(frozen=True, kw_only=True)
class State:
    """`complete` is False from the first step of `up` to its last: what was cut short in between is cleaned, never continued."""

    index: int
    nodes: int
    complete: bool

    @property
    def plan(self) -> Plan:
        return Plan(index=self.index)


def read(run: Path) -> State | None:
    """The state in a run directory; None when there is none, or none that can be read."""
    try:
        content = json.loads((run / "state.json").read_text())
        return State(index=int(content["index"]), nodes=int(content["nodes"]), complete=bool(content["complete"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(run: Path, state: State) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new one."""
    run.mkdir(parents=True, exist_ok=True)
    unfinished = run / "state.json.unfinished"
    unfinished.write_text(json.dumps(asdict(state)))
    unfinished.replace(run / "state.json")


class Start(enum.Enum):
    """What `up` has to do first, given what it finds."""

    REUSE = "reuse"
    CLEAN = "clean"
    FRESH = "fresh"


def decide(state: State | None, *, living: int, traces: bool) -> Start:
    """Whether a cluster can be used as it is, has to be cleaned away first, or was never there.

    `living` is how many node inits live, `traces` whether anything else is left of it (a run directory, an interface, a cgroup).
    """
    if state is not None and state.complete and living == state.nodes:
        return Start.REUSE
    return Start.CLEAN if state is not None or living or traces else Start.FRESH
