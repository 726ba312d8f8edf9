"""From nothing to an answer: an empty virtual environment, the built distributions, three commands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .terminal import opened

REPOSITORY = Path(__file__).parents[2]
DISTRIBUTIONS = ("api", "runtime", "cli")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a virtual environment that holds what installing our wheels brings."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    # Given as folders: the index must not be asked for our own names.
    ignored = shutil.ignore_patterns("__pycache__", "dist", "build")
    sources = [str(shutil.copytree(REPOSITORY / part, folder / part, ignore=ignored)) for part in DISTRIBUTIONS]
    subprocess.run([str(programs / "pip"), "install", "--quiet", "--no-compile", *sources], check=True)
    return programs


def test_an_empty_environment_becomes_an_agent_that_answers(installed: Path, tmp_path: Path) -> None:
    with opened(tmp_path, [str(installed / "agentservice")]) as terminal:
        created = terminal.run("init", "my-agent")
        assert created.returncode == 0, created.stderr
        served = terminal.serve("-f", "my-agent/agent.yaml")
        served.wait_for("my-agent answers at")
        answer = terminal.run("ask", "Hello")
        assert answer.returncode == 0, answer.stderr
        assert "This is the test model" in answer.stdout
        assert served.stop() == 0

        plugin = subprocess.run(
            [str(installed / "kubectl-agentservice"), "--help"], capture_output=True, text=True, check=True
        )
        assert "Usage: kubectl agentservice" in plugin.stdout

        for command in (["render", "-f", "my-agent/agent.yaml"], ["plan", "-f", "my-agent/agent.yaml"], ["doctor"]):
            missing = terminal.run(*command)
            assert missing.returncode == 1
            assert "./operator './cli[cluster]'" in missing.stderr

        subprocess.run([str(installed / "pip"), "install", "--quiet", "pytest"], check=True)
        tested = subprocess.run(
            [str(installed / "python"), "-m", "pytest", "-q"],
            cwd=tmp_path / "my-agent",
            env=terminal.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tested.returncode == 0, tested.stdout
        assert "2 passed" in tested.stdout
