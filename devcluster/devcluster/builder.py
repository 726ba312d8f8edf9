"""Building and exporting one image: with docker where its engine runs, else with buildah, which needs no engine.

buildah runs in a mount and PID namespace of its own, so that one that is killed leaves no mount and no process.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devcluster.errors import ClusterError
from devcluster.namespaces import run

CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE")
"""What pip and uv read the authority of a TLS proxy from."""


class Builder(Protocol):
    """Builds images into a store of its own and writes them to archives."""

    def has(self, image: str) -> bool:
        """Whether the store has this image."""
        ...

    def build(
        self, *, image: str, context: Path, dockerfile: Path, target: str | None, arguments: Mapping[str, str]
    ) -> None:
        """Build and name an image. Raises ClusterError with the end of the output."""
        ...

    def pull(self, image: str) -> bool:
        """Fetch an image; False when that is not possible."""
        ...

    def import_root(self, *, image: str, root: Path, path: str) -> None:
        """Make an image of one directory, with `path` as its PATH."""
        ...

    def save(self, *, names: Sequence[str], archive: Path) -> None:
        """Write the image with the first name as `docker save` does; further names where the tool can."""
        ...

    def push(self, *, image: str, destination: str) -> None:
        """Send an image to a registry."""
        ...


def certificates(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Build arguments and volumes that give the host's authorities to a build. Nothing where the host has set nothing.

    They are mounted beside the image's own: packages write to /etc/ssl/certs while they are installed.
    """
    named = {name: Path(environment.get(name, "")) for name in CERTIFICATE_VARIABLES}
    files = {name: path for name, path in named.items() if path.is_file()}
    directories = sorted({path.parent for path in files.values()})
    places = {directory: f"/run/host-certificates/{number}" for number, directory in enumerate(directories)}
    arguments = {name: f"{places[path.parent]}/{path.name}" for name, path in files.items()}
    return arguments, [f"{directory}:{place}" for directory, place in places.items()]


def own_limits() -> list[str]:
    """Our own limits as a build's: newer buildah wants to raise them, which root inside a container may not."""
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    return [f"{name}={':'.join(str(value) for value in resource.getrlimit(number))}" for name, number in names.items()]


def apart(command: Sequence[str]) -> list[str]:
    """The command in namespaces that end with it, and it with us."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("--propagation", "private", *command),
    ]


def docker_answers() -> bool:
    """Whether a docker engine runs here; the command alone is not enough."""
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@dataclass(frozen=True, kw_only=True)
class Docker:
    """The docker command."""

    def has(self, image: str) -> bool:
        return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0

    def build(
        self, *, image: str, context: Path, dockerfile: Path, target: str | None, arguments: Mapping[str, str]
    ) -> None:
        _run_build(["docker", "build", *_options(image, dockerfile, target, arguments), str(context)], image)

    def pull(self, image: str) -> bool:
        return subprocess.run(["docker", "pull", image], capture_output=True, check=False).returncode == 0

    def import_root(self, *, image: str, root: Path, path: str) -> None:
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            imported = subprocess.run(
                ["docker", "import", f"--change=ENV PATH={path}", "-", image],
                stdin=tar.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
        if imported.returncode != 0:
            raise ClusterError(f"docker import: {imported.stderr.strip()}")

    def save(self, *, names: Sequence[str], archive: Path) -> None:
        for alias in names[1:]:
            run(["docker", "tag", names[0], alias])
        run(["docker", "save", "--output", str(archive), *names])

    def push(self, *, image: str, destination: str) -> None:
        run(["docker", "tag", image, destination])
        run(["docker", "push", destination])


@dataclass(frozen=True, kw_only=True)
class Buildah:
    """buildah as root, with its store in our cache."""

    store: Path
    environment: Mapping[str, str]

    def prepare(self) -> None:
        """Forget working containers of a build that was killed; finished layers stay."""
        shutil.rmtree(self.store / "runroot", ignore_errors=True)
        (self.store / "root").mkdir(parents=True, exist_ok=True)
        if not (self.store / "driver").exists():
            (self.store / "driver").write_text(self._try_overlay())
        subprocess.run(self._command("rm", "--all"), capture_output=True, check=False)

    def has(self, image: str) -> bool:
        return (
            subprocess.run(
                self._command("inspect", "--type", "image", image), capture_output=True, check=False
            ).returncode
            == 0
        )

    def build(
        self, *, image: str, context: Path, dockerfile: Path, target: str | None, arguments: Mapping[str, str]
    ) -> None:
        trust, volumes = certificates(self.environment)
        command = self._command(
            *("build", "--isolation", "chroot", "--layers", "--pull=false", "--format", "docker"),
            *(f"--volume={volume}:ro" for volume in volumes),
            *(f"--ulimit={limit}" for limit in own_limits()),
            *_options(image, dockerfile, target, {**arguments, **trust}),
            str(context),
        )
        _run_build(command, image)

    def pull(self, image: str) -> bool:
        return subprocess.run(self._command("pull", image), capture_output=True, check=False).returncode == 0

    def import_root(self, *, image: str, root: Path, path: str) -> None:
        container = run(self._command("from", "scratch")).strip()
        run(self._command("add", "--quiet", container, str(root), "/"))
        run(self._command("config", "--env", f"PATH={path}", container))
        run(self._command("commit", "--quiet", "--rm", container, image))

    def save(self, *, names: Sequence[str], archive: Path) -> None:
        # not compressed: the archive stays on this machine, and compressing costs more time than writing
        run(self._command("push", "--quiet", names[0], f"docker-archive:{archive}:{names[0]}"))

    def push(self, *, image: str, destination: str) -> None:
        run(self._command("push", "--quiet", image, f"docker://{destination}"))

    @property
    def driver(self) -> str:
        """How the store is kept: overlay or vfs. Known once it is prepared."""
        return (self.store / "driver").read_text()

    @property
    def images(self) -> Path:
        """The store, for other programs that read it."""
        return self.store / "root" / self.driver

    def _command(self, *arguments: str) -> list[str]:
        place = (
            *("--root", str(self.images), "--runroot", str(self.store / "runroot")),
            *("--storage-driver", self.driver),
        )
        return apart(["buildah", *place, *arguments])

    def _try_overlay(self) -> str:
        """overlay where it can be mounted on our cache's file system (not on another overlay), else vfs, which is slow."""
        lower, upper, work, merged = (self.store / "try" / name for name in ("lower", "upper", "work", "merged"))
        for directory in (lower, upper, work, merged):
            directory.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mounted = subprocess.run(
            apart(["mount", "-n", "-t", "overlay", "-o", options, "overlay", str(merged)]),
            capture_output=True,
            check=False,
        )
        shutil.rmtree(self.store / "try", ignore_errors=True)
        return "overlay" if mounted.returncode == 0 else "vfs"


def choose(*, cache: Path) -> Docker | Buildah:
    """docker where its engine runs, else buildah. Raises ClusterError without root for buildah."""
    if docker_answers():
        return Docker()
    if os.geteuid() != 0:
        raise ClusterError("needs root to build images with buildah (no docker engine runs here): use sudo")
    return Buildah(store=cache / "buildah", environment=os.environ)


def _options(image: str, dockerfile: Path, target: str | None, arguments: Mapping[str, str]) -> list[str]:
    return [
        *("--file", str(dockerfile), "--tag", image),
        *(("--target", target) if target else ()),
        *(f"--build-arg={name}={value}" for name, value in sorted(arguments.items())),
    ]


def _run_build(command: Sequence[str], image: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"building {image} failed:\n" + "\n".join(done.stdout.strip().splitlines()[-25:]))
