"""The namespaces that a node lives in: its first process, what it sees of the host, and how to run something inside.

A node's init carries the node's directory as an argument. That mark in /proc is the only record needed to find what is left of a
cluster, however its start was cut short; killing the init makes the kernel end everything in its PID namespace, and with it the
mounts and the network.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import ClusterError

PROC = Path("/proc")
HIDDEN = "/run /var/log /var/lib /opt"


@dataclass(frozen=True, kw_only=True)
class Inside:
    """A node's namespaces, by their init."""

    init: int
    """PID on the host."""

    def command(self, *arguments: str) -> list[str]:
        """The command that runs these arguments inside."""
        # --root: in a chroot the mount namespace alone would lead out of it
        options = ("--root", "--mount", "--net", "--pid", "--ipc", "--uts")
        return ["nsenter", "--target", str(self.init), *options, "--", *arguments]

    def shell(self, script: str) -> str:
        """Run a script inside. Raises ClusterError when a command of it fails."""
        return run(self.command("sh", "-ec", script))

    def spawn(self, program: str, command: Sequence[str], *, directory: Path, log: Path) -> None:
        """Start a program that stays, with a session of its own: Ctrl-C in the terminal that started it is not for it."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=directory,
            )
        child = _until(lambda: _child(process.pid), f"{program} did not start", alive=lambda: process.poll() is None)
        (directory / f"{program}.pid").write_text(str(child))

    def running(self, program: str, *, directory: Path) -> int | None:
        """The PID on the host of a program started by `spawn`, while it lives. A reused PID is in another PID namespace."""
        try:
            pid = int((directory / f"{program}.pid").read_text())
            same = (PROC / str(pid) / "ns" / "pid").readlink() == (PROC / str(self.init) / "ns" / "pid").readlink()
        except (OSError, ValueError):
            return None
        return pid if same else None


def create(pause: Path, *, mark: Path, hostname: str) -> Inside:
    """Make a node's namespaces. Private views hide the host's directories that kubelet, CNI and containerd hard-code."""
    process = subprocess.Popen(
        [
            *("unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("--propagation", "private", str(pause), str(mark)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        found = _until(lambda: next(iter(inits(mark)), None), hostname, alive=lambda: process.poll() is None)
    except ClusterError:
        process.kill()
        said = process.communicate()[1].decode(errors="replace").strip()
        raise ClusterError(f"the namespaces of {hostname} were not created: {said or 'unshare says nothing'}") from None
    inside = Inside(init=found)
    inside.shell(f"""hostname {hostname}
        for directory in {HIDDEN}; do mount --no-mtab -t tmpfs tmpfs $directory; done
        mkdir -p /run/netns
        mount --no-mtab --make-rshared /
        ip link set lo up
        echo 1 > /proc/sys/net/ipv4/ip_forward""")
    return inside


def inits(mark: Path) -> list[int]:
    """PIDs on the host of the inits that carry exactly this mark."""
    return [pid for pid, arguments in _inits() if arguments[1] == str(mark)]


def inits_under(directory: Path) -> list[int]:
    """PIDs on the host of all inits whose mark lies below a directory."""
    return [pid for pid, arguments in _inits() if Path(arguments[1]).is_relative_to(directory)]


def kill(pids: Sequence[int], *, timeout: float = 120) -> None:
    """End namespaces by their inits and wait for the kernel to have ended everything inside (34 s were seen under heavy load)."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + timeout
    while any(_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"processes {', '.join(map(str, pids))} do not end: a disk or a mount hangs; `ps -o stat,wchan -p PID` shows where"
            )
        time.sleep(0.02)


def run(command: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a command to its end. Raises ClusterError with its output when it fails."""
    try:
        done = subprocess.run(
            command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError(f"{command[0]} is missing on this machine") from None
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)[:300]}: {done.stdout.strip()}")
    return done.stdout


def _inits() -> list[tuple[int, list[str]]]:
    found: list[tuple[int, list[str]]] = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            except OSError:
                continue
            if len(arguments) == 2 and Path(arguments[0]).name == "pause":
                found.append((int(entry.name), arguments))
    return found


def _child(pid: int) -> int | None:
    try:
        children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _alive(pid: int) -> bool:
    try:
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _until(found: Callable[[], int | None], what: str, *, alive: Callable[[], bool], timeout: float = 10) -> int:
    deadline = time.monotonic() + timeout
    while True:
        pid = found()
        if pid is not None:
            return pid
        if not alive() or time.monotonic() > deadline:
            raise ClusterError(what)
        time.sleep(0.01)
