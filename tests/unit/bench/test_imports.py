"""The benches are run by hand, so nothing else would tell that what they import has moved."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import tests.bench.operator


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.iter_modules(tests.bench.operator.__path__) if m.name != "__main__"]
)
def test_every_module_of_the_operators_bench_is_importable(name: str):
    importlib.import_module(f"tests.bench.operator.{name}")
