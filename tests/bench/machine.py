"""Says on what machine figures were taken, and how busy it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def machine(*, python: str = "") -> str:
    """One line about the machine. ``python`` is the version that what is measured runs on, where it is not ours."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown processor",
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GB, Python {python or sys.version.split()[0]}, load before: {load:.1f}"
