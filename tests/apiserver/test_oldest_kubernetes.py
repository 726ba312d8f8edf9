"""The oldest Kubernetes that we promise takes the CRDs: its estimate of what a rule costs is coarser than today's."""

import subprocess
from pathlib import Path

import pytest

from devcluster import tools
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings

SOURCES = Path(__file__).with_name("oldest_kubernetes")
DEFINITIONS = sorted((REPOSITORY / "crds").glob("*.yaml"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation of CRDs of Kubernetes 1.30. Three minutes the first time, then Go's cache has it."""
    settings = read_settings()
    try:
        go = tools.go(settings, progress=Progress())
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))
    made = tmp_path_factory.mktemp("oldest") / "judge"
    subprocess.run([str(go), "build", "-o", str(made), "."], cwd=SOURCES, check=True, capture_output=True, text=True)
    return made


def problems(judge: Path, definition: Path) -> str:
    return subprocess.run([str(judge), str(definition)], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.stem.partition("_")[2])
def test_kubernetes_1_30_accepts_the_definition(judge: Path, definition: Path) -> None:
    assert problems(judge, definition) == ""


def test_a_rule_that_is_too_dear_would_be_told(judge: Path, tmp_path: Path) -> None:
    dear = tmp_path / "dear.yaml"
    text = DEFINITIONS[-1].read_text()
    assert "maxProperties: 12" in text
    dear.write_text(text.replace("maxProperties: 12", "maxProperties: 100"))
    assert "estimated rule cost exceeds budget" in problems(judge, dear)


def test_a_function_that_came_later_would_be_told(judge: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    text = DEFINITIONS[-1].read_text()
    assert "isQuantity(self)" in text
    later.write_text(text.replace("isQuantity(self)", "format.dns1123Label().validate(self)"))
    assert "undeclared reference" in problems(judge, later)
