"""What `up` does with what it finds."""

from pathlib import Path

import pytest

from devcluster import cgroups, state
from devcluster.state import Start, State


def known(*, complete: bool, nodes: int = 1) -> State:
    return State(index=0, nodes=nodes, complete=complete)


@pytest.mark.parametrize(
    ("found", "living", "traces", "expected"),
    [
        (None, 0, False, Start.FRESH),
        (known(complete=True), 1, True, Start.REUSE),
        (known(complete=False), 1, True, Start.CLEAN),  # Ctrl-C, or SIGKILL, in the middle of a start
        (known(complete=True), 0, True, Start.CLEAN),  # the machine was restarted
        (known(complete=True, nodes=2), 1, True, Start.CLEAN),  # a node died
        (None, 1, False, Start.CLEAN),  # the directory was removed under a living cluster
        (None, 0, True, Start.CLEAN),  # killed before the state was written
    ],
)
def test_only_a_complete_and_living_cluster_is_used_again(
    found: State | None, living: int, traces: bool, expected: Start
):
    assert state.decide(found, living=living, traces=traces) is expected


def test_the_state_is_read_as_it_was_written(tmp_path: Path):
    state.write(tmp_path / "run", known(complete=True, nodes=3))
    assert state.read(tmp_path / "run") == known(complete=True, nodes=3)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"index": 1}', '{"index": "x", "nodes": 1, "complete": true}'])
def test_a_state_that_cannot_be_read_is_none(tmp_path: Path, content: str):
    (tmp_path / "state.json").write_text(content)
    assert state.read(tmp_path) is None


def test_a_cgroup_is_made_and_removed_in_every_v1_hierarchy(tmp_path: Path):
    for controller in ("cpuset", "memory"):
        (tmp_path / controller).mkdir()
    cgroups.create("dc0/node-0", root=tmp_path)
    assert (tmp_path / "memory" / "dc0" / "node-0").is_dir()
    assert (tmp_path / "cpuset" / "dc0" / "node-0").is_dir()
    cgroups.remove("dc0", root=tmp_path)
    assert list(tmp_path.glob("*/*")) == []


def test_a_cgroup_is_made_once_on_v2_and_controllers_are_handed_down(tmp_path: Path):
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    cgroups.create("dc0/node-0", root=tmp_path)
    assert (tmp_path / "dc0" / "node-0" / "cgroup.subtree_control").read_text().startswith("+")


@pytest.mark.parametrize(("file", "weight"), [("cpu.shares", "10240"), ("cpu.weight", "1000")])
def test_a_cluster_weighs_more_than_a_process_beside_it_and_its_nodes_share_that(
    tmp_path: Path, file: str, weight: str
):
    if file == "cpu.weight":
        (tmp_path / "cgroup.controllers").write_text("cpu")
        hierarchy = tmp_path
    else:
        hierarchy = tmp_path / "cpu"
    (hierarchy / "dc0" / "node-0").mkdir(parents=True)
    for place in (hierarchy / "dc0", hierarchy / "dc0" / "node-0"):
        (place / file).write_text("as the kernel made it")
    cgroups.create("dc0/node-0", root=tmp_path)
    assert (hierarchy / "dc0" / file).read_text() == weight
    assert (hierarchy / "dc0" / "node-0" / file).read_text() == "as the kernel made it"
