"""On which Python the operator is measured."""

from pathlib import Path

from tests.bench.operator.programs import python

RUNNING = Path("/running/python")


def system(directory: Path, *, is_new_enough: bool) -> Path:
    made = directory / "python3"
    made.write_text(f"#!/bin/sh\nexit {0 if is_new_enough else 1}\n")
    made.chmod(0o755)
    return made


def test_a_python_that_was_optimised_is_measured(tmp_path: Path) -> None:
    configured = "'--enable-optimizations' '--with-lto'"
    assert python(configured=configured, running=RUNNING, system=system(tmp_path, is_new_enough=True)) == RUNNING


def test_instead_of_one_that_was_not_the_distributions_is_measured(tmp_path: Path) -> None:
    distributions = system(tmp_path, is_new_enough=True)
    assert python(configured="'--enable-shared'", running=RUNNING, system=distributions) == distributions


def test_unless_it_is_too_old_or_not_there(tmp_path: Path) -> None:
    assert python(configured="", running=RUNNING, system=tmp_path / "none") == RUNNING
    assert python(configured="", running=RUNNING, system=system(tmp_path, is_new_enough=False)) == RUNNING
