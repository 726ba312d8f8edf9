"""Fixtures of the command line's end-to-end tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .terminal import Terminal, opened


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal with the workspace's own `agentservice`."""
    with opened(tmp_path, [sys.executable, "-c", "from agentservice_cli.main import main; main()"]) as terminal:
        yield terminal
