"""`python -m tests.bench`: what two hundred agents cost, with controllers and pods. `tests.bench.operator` is without them."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "devcluster"))  # as pytest's `pythonpath` does for the tests

from tests.apiserver.operator_process import OperatorProcess, operators  # noqa: E402
from tests.bench import crowd  # noqa: E402
from tests.bench.machine import machine  # noqa: E402

from devcluster import components  # noqa: E402
from devcluster.progress import Progress  # noqa: E402
from devcluster.settings import read_settings  # noqa: E402
from devcluster.standalone import StandaloneControlPlane  # noqa: E402


@contextlib.contextmanager
def installation() -> Iterator[tuple[StandaloneControlPlane, OperatorProcess]]:
    """A control plane of its own with one operator that leads."""
    built = components.built(read_settings(), progress=Progress())
    definitions = sorted((REPOSITORY / "crds").glob("*.yaml"))
    with (
        tempfile.TemporaryDirectory() as directory,
        StandaloneControlPlane(binary=built.binary, definitions=definitions) as plane,
        operators(plane, Path(directory), lease="bench") as make,
    ):
        operator = make().start()
        yield plane, operator
        operator.stop()


def main() -> None:
    sys.stdout.write(f"{machine()}\n")
    with installation() as (plane, operator):
        for line in crowd.measure(plane, operator):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


main()
