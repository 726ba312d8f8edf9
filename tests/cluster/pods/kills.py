"""A process that dies without warning, as when its node loses power."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .kube import Kube, Manifest


def kill_without_warning(kube: Kube, pod: Manifest, *, program: bytes) -> None:
    """SIGKILL to the pod's processes from outside; where they run on another machine, the nearest that the API offers.

    ``program`` stands in their command line: the pod's sandbox has a process too.
    """
    uid = pod["metadata"]["uid"]
    marks = (f"pod{uid}", f"pod{uid.replace('-', '_')}")
    killed = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            groups = (entry / "cgroup").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if any(mark in groups for mark in marks) and program in command:
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
    if not killed:
        kube.delete("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"], grace_seconds=0)
