"""`python -m tests.bench.operator [--sizes 200,1000,5000] [--check] [--figures FILE] [--write PAGE]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "devcluster"))  # as pytest's `pythonpath` does for the tests

from tests.bench.machine import machine  # noqa: E402
from tests.bench.operator import figures, programs  # noqa: E402
from tests.bench.operator.measure import measure  # noqa: E402
from tests.bench.operator.page import page  # noqa: E402

from devcluster import components  # noqa: E402
from devcluster.progress import Progress  # noqa: E402
from devcluster.settings import read_settings  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.operator", description=__doc__)
    parser.add_argument("--sizes", default="200,1000,5000", help="numbers of AgentServices")
    parser.add_argument("--check", action="store_true", help="fail when a figure is outside ranges.toml")
    parser.add_argument("--figures", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--write", type=Path, help="the page to write")
    arguments = parser.parse_args()
    began = time.monotonic()
    lines: list[str] = []
    settings, progress = read_settings(), Progress()
    binary = components.built(settings, progress=progress).binary
    built = programs.built(settings, progress=progress)
    operator = programs.operator_program(settings, progress=progress)

    def say(line: str) -> None:
        lines.append(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    say(machine(python=programs.version(operator)))
    found: dict[int, figures.Figures] = {}
    for size in map(int, arguments.sizes.split(",")):
        found[size] = measure(size, binary=binary, programs=built, operator=operator, say=say)
    if arguments.figures:
        arguments.figures.write_text(json.dumps(found, indent=1))
    wrong = figures.outside(found, figures.ranges())
    if arguments.write:
        today = datetime.now(UTC).date()
        text = page(lines, today=today, seconds=time.monotonic() - began, outside=wrong)
        arguments.write.write_text(text)
    for line in wrong:
        say(f"outside its range: {line}")
    return 1 if wrong and arguments.check else 0


raise SystemExit(main())
