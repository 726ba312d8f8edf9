"""Decides what is read of a process: /proc alone, so that measuring costs it nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int, *, peak: bool = False) -> float:
    """Resident memory now, or the most that it ever was."""
    name = "VmHWM" if peak else "VmRSS"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


class Meter:
    """The processor time of several processes from here on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def seconds(self, name: str) -> float:
        return cpu_seconds(self._pids[name]) - self._began[name]
