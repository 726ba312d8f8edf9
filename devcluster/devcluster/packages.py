"""Which Debian packages are needed for what, and their installation where that is allowed."""

import enum
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from devcluster.errors import ClusterError
from devcluster.progress import Progress

CNI_PLUGINS = Path("/usr/lib/cni")


class Need(enum.Enum):
    """A program that is used, and the Debian package that has it."""

    CONTAINERD = ("containerd", "containerd")
    RUNC = ("runc", "runc")
    CNI = (str(CNI_PLUGINS / "ptp"), "containernetworking-plugins")
    IP = ("ip", "iproute2")
    NFT = ("nft", "nftables")
    OPENSSL = ("openssl", "openssl")
    BUILDAH = ("buildah", "buildah")
    NETAVARK = ("/usr/lib/podman/netavark", "netavark")
    """buildah asks for it even where no network is made; Debian only recommends it."""
    AARDVARK = ("/usr/lib/podman/aardvark-dns", "aardvark-dns")
    """Names of containers in networks of podman; Debian only recommends it."""
    PODMAN = ("podman", "podman")
    IPTABLES = ("iptables", "iptables")
    """What netavark speaks to."""
    DEBOOTSTRAP = ("debootstrap", "debootstrap")
    CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates")
    REDIS = ("redis-server", "redis-server")
    """Tests of budgets, and their bench."""
    POSTGRES = ("/usr/lib/postgresql/*/bin/postgres", "postgresql")
    """Tests of conversations."""
    CURL = ("curl", "curl")
    """Tests of what its users see."""
    FAKETIME = ("/usr/bin/faketime", "faketime")
    """Gives one process of a bench a wrong clock."""

    @property
    def program(self) -> str:
        return self.value[0]

    @property
    def package(self) -> str:
        return self.value[1]


NODE = (Need.CONTAINERD, Need.RUNC, Need.CNI, Need.IP, Need.NFT, Need.OPENSSL)
"""What a node runs on. util-linux (unshare, nsenter) and mount are part of every Debian."""
IMAGES = (Need.BUILDAH, Need.NETAVARK, Need.CERTIFICATES)
CONTAINERS = (Need.PODMAN, Need.RUNC, Need.NETAVARK, Need.AARDVARK, Need.IPTABLES, Need.NFT)
"""What runs a stack of containers where no docker engine does."""
BASE_IMAGE = (Need.DEBOOTSTRAP,)


def missing(needs: Iterable[Need]) -> list[Need]:
    """Those that are not on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return [
        need
        for need in needs
        if not (
            any(Path("/").glob(need.program[1:]))
            if need.program.startswith("/")
            else shutil.which(need.program, path=path)
        )
    ]


def ensure(needs: Iterable[Need], *, progress: Progress) -> None:
    """Install what is missing. Raises ClusterError with the command to run where that is not possible."""
    packages = [need.package for need in missing(needs)]
    if packages:
        install(packages, progress=progress)


def install(packages: list[str], *, progress: Progress) -> None:
    """apt-get install, as root on Debian. Raises ClusterError."""
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"missing here: {', '.join(packages)} (names of Debian packages); install them and try again"
        )
    if os.geteuid() != 0:
        raise ClusterError(f"needs root to install {', '.join(packages)}: sudo {command}")
    progress.step(f"installing {', '.join(packages)}")
    # a run that was killed may have left dpkg in the middle, which the first command mends
    for arguments in (
        ["dpkg", "--configure", "-a"],
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends", *packages],
    ):
        status, output = _undisturbed(arguments)
        if status != 0:
            last = "\n".join(output.strip().splitlines()[-8:])
            raise ClusterError(f"{' '.join(arguments[:3])} failed; try: {command}\n{last}")


def _undisturbed(command: list[str]) -> tuple[int, str]:
    """Run to the end, whatever happens to us: Ctrl-C in the middle of an installation would leave packages half configured."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            process.wait()
            raise
        output.seek(0)
        return status, output.read().decode(errors="replace")
