"""The examples' manifests, and what makes their Python code importable."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "examples"
sys.path[:0] = [str(EXAMPLES / "data-analyst"), str(EXAMPLES / "model-server")]

NOT_MANIFESTS = {"kustomization.yaml", "references.yaml", "compose.yaml"}


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """Every object of every example, with the path of its file."""
    files = sorted(path for path in EXAMPLES.rglob("*.yaml") if path.name not in NOT_MANIFESTS)
    return [
        (str(path.relative_to(EXAMPLES)), document)
        for path in files
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test `manifest` (every object), or `agent` (every AgentService)."""
    for name, kinds in (("manifest", None), ("agent", {"AgentService"})):
        if name in metafunc.fixturenames:
            chosen = [(path, content) for path, content in manifests() if kinds is None or content["kind"] in kinds]
            ids = [f"{path}:{content['kind']}" for path, content in chosen]
            metafunc.parametrize(name, [content for _, content in chosen], ids=ids)


@pytest.fixture
def examples() -> Path:
    return EXAMPLES
