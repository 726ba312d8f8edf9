"""`python -m tests.bench.runtime [--check] [--write PAGE]`. What it is doing it tells on standard error."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "devcluster"))  # as pytest's `pythonpath` does for the tests

from tests.bench.budgets.figures import Figure, declared, outside  # noqa: E402
from tests.bench.machine import machine  # noqa: E402
from tests.bench.runtime import measure  # noqa: E402
from tests.bench.runtime.page import Page  # noqa: E402
from tests.bench.runtime.server import ModelServer  # noqa: E402
from tests.bench.runtime.subjects import keep_off  # noqa: E402

STARTED = time.monotonic()
RANGES = Path(__file__).with_name("ranges.toml")


def progress(text: str) -> None:
    sys.stderr.write(f"[{time.monotonic() - STARTED:4.0f} s] {text}\n")
    sys.stderr.flush()


def tables(scene: measure.Scene, *, port: int) -> Iterator[tuple[str, Iterator[measure.Row | measure.Fact]]]:
    """Yield the parts of the page, each with its rows as they come."""
    yield "run", measure.runs(scene, server_port=port, progress=progress)
    yield "stream", measure.streams(scene, server_port=port, progress=progress)
    yield "crowd", measure.crowd(scene, progress=progress)
    yield "idle", measure.idle(scene, progress=progress)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.runtime", description=__doc__)
    parser.add_argument("part", nargs="*", help="run, stream, crowd, idle; all without one")
    parser.add_argument("--check", action="store_true", help="fail when a figure is outside of ranges.toml")
    parser.add_argument("--write", type=Path, help="the page to write")
    chosen = parser.parse_args()
    page, figures = Page(machine()), list[Figure]()
    keep_off()
    with ModelServer() as server, measure.Scene(server_port=server.port) as scene:
        for name, rows in tables(scene, port=server.port):
            if chosen.part and name not in chosen.part:
                continue
            for row in rows:
                sys.stdout.write(f"{page.add(name, row)}\n")
                sys.stdout.flush()
                figures += row.figures()
    wrong = list(outside(figures, declared(RANGES)))
    verdict = f"{len(figures)} figures, {len(wrong)} outside of ranges.toml"
    sys.stdout.write("\n".join([verdict, *wrong, ""]))
    if chosen.write is not None:
        seconds = time.monotonic() - STARTED
        chosen.write.write_text(
            page.text(today=datetime.now(UTC).date(), seconds=seconds, verdict=verdict, wrong=wrong)
        )
    if wrong and chosen.check:
        sys.exit(1)


main()
