"""The corpus of invalid manifests, shared with the tests that send it to a real API server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CORPUS = Path(__file__).resolve().parents[2] / "apiserver" / "invalid"
FULL = CORPUS.parent / "test_crd_full.yaml"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One manifest, the field that is wrong and a part of the message."""

    field: str
    says: str
    manifest: dict[str, Any]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, folder in (("refused", CORPUS), ("semantic", CORPUS / "semantic")):
        if fixture in metafunc.fixturenames:
            paths = sorted(folder.glob("*.yaml"))
            metafunc.parametrize(fixture, [_case(path) for path in paths], ids=[path.stem for path in paths])


@pytest.fixture
def full() -> dict[str, Any]:
    """A manifest with every field."""
    return yaml.safe_load(FULL.read_text())


def _case(path: Path) -> Case:
    text = path.read_text()
    field, says = text.splitlines()[:2]
    return Case(
        field=field.removeprefix("# field: "), says=says.removeprefix("# says: "), manifest=yaml.safe_load(text)
    )
