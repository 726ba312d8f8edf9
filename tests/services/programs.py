"""Where a program that tests start is; in CI it is installed when it is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

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


def _found(need: Need) -> str | None:
    """The newest, where several versions stand beside each other."""
    if need.program.startswith("/"):
        return max(map(str, Path("/").glob(need.program[1:])), default=None)
    return shutil.which(need.program)
