"""Renders the chart with the real Helm: HELM, the one on PATH, or the one that the dev cluster has built."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster import components
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import read_settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "agentservice-operator"
RELEASE = "agents"
NAMESPACE = "agents-system"

Manifest = dict[str, Any]


class Rendered:
    """What Helm made of the chart."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.manifests = [manifest for manifest in manifests if manifest]

    @property
    def kinds(self) -> list[str]:
        return sorted(manifest["kind"] for manifest in self.manifests)

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (found,) = self.all(kind)
        return found

    @property
    def container(self) -> Manifest:
        (container,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        return container

    @property
    def env(self) -> dict[str, str]:
        return {entry["name"]: entry["value"] for entry in self.container["env"] if "value" in entry}


@pytest.fixture(scope="session")
def helm() -> str:
    found = os.environ.get("HELM") or shutil.which("helm")
    if found is None:
        try:
            built = components.cached(read_settings(), progress=Progress())
        except ClusterError as error:
            pytest.fail(str(error))
        if built is None:
            pytest.fail("no helm: put it on PATH, name it in the variable HELM, or run `devcluster/dc build` once")
        found = str(built.directory / "helm")
    return found


class Chart:
    """The chart, to be rendered with values."""

    def __init__(self, *, helm: str, directory: Path) -> None:
        self._helm = helm
        self._directory = directory
        self._rendered: dict[str, Rendered] = {}

    def render(self, values: Manifest | None = None) -> Rendered:
        """Return what Helm makes of the chart; the same values are rendered once."""
        key = yaml.safe_dump(values)
        if key not in self._rendered:
            done = self._run(values)
            assert done.returncode == 0, done.stderr
            self._rendered[key] = Rendered(yaml.safe_load_all(done.stdout))
        return self._rendered[key]

    def refusal(self, values: Manifest) -> str:
        """Return why Helm refuses these values."""
        done = self._run(values)
        assert done.returncode != 0, "Helm took the values"
        return done.stderr

    def notes(self, values: Manifest | None = None) -> str:
        return self._run(values, "install", "--dry-run=client").stdout.partition("NOTES:\n")[2]

    def _run(self, values: Manifest | None, *command: str) -> subprocess.CompletedProcess[str]:
        file = self._directory / f"{uuid.uuid4().hex}.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        arguments = [*(command or ("template",)), RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(file)]
        return subprocess.run([self._helm, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def chart(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Chart:
    return Chart(helm=helm, directory=tmp_path_factory.mktemp("values"))
