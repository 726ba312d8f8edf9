"""Where a program that tests start is; in CI it is installed when it is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from devcluster.errors import ClusterError
from devcluster.locks import only_one
from devcluster.packages import Need, ensure
from devcluster.progress import Progress
from devcluster.settings import read_settings


def program(need: Need) -> str:
    """Return its path. Raises ClusterError."""
    found = _found(need)
    if found is not None:
        return found
    if not read_settings().ci:
        raise ClusterError(f"{need.program} is missing: apt-get install {need.package}")
    with only_one(read_settings().cache / "packages.lock", waiting=lambda: None):
        ensure([need], progress=Progress())
    return _found(need) or need.program


def at_hand(need: Need) -> None:
    """Skip the test where the program is missing; in CI, where it could not be installed, fail it."""
    try:
        program(need)
    except ClusterError as error:
        if read_settings().ci:
            pytest.fail(str(error))
        pytest.skip(str(error))


def _found(need: Need) -> str | None:
    """The newest, where several versions stand beside each other."""
    if need.program.startswith("/"):
        return max(map(str, Path("/").glob(need.program[1:])), default=None)
    return shutil.which(need.program)
