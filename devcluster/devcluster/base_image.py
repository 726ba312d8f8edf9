"""The image that ours are built on: Python's own where a registry is reached, else a Debian of our own making."""

import contextlib
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from devcluster import packages
from devcluster.builder import Builder, apart
from devcluster.namespaces import run
from devcluster.progress import Moving, Progress
from devcluster.settings import Settings

OFFICIAL = "docker.io/library/python:3.13-slim"
REGISTRY = "https://registry-1.docker.io/v2/"
RELEASE = "trixie"
"""Debian 13, whose Python is 3.13."""
INCLUDED = ("python3", "python3-venv", "ca-certificates")
MIRROR = "http://deb.debian.org/debian"
SUPERFLUOUS = (
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RECIPE = hashlib.sha256(repr((RELEASE, INCLUDED, SUPERFLUOUS, PATH)).encode()).hexdigest()[:8]
STAND_IN = f"localhost/debian-python:3.13-{RECIPE}"


def choose(settings: Settings, *, builder: Builder, progress: Progress) -> str:
    """The base image's name, the same on every later call; made or pulled when it is not here. Raises ClusterError."""
    if settings.base_image:
        return settings.base_image
    remembered = settings.cache / "base-image"
    if remembered.exists() and (name := remembered.read_text().strip()) in {OFFICIAL, STAND_IN} and builder.has(name):
        return name
    name = OFFICIAL if _registry_answers() and builder.pull(OFFICIAL) else STAND_IN
    if name == STAND_IN and not builder.has(STAND_IN):
        _make(settings, builder=builder, progress=progress)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(name)
    return name


def _registry_answers() -> bool:
    try:
        with urllib.request.urlopen(REGISTRY, timeout=5):
            return True
    except urllib.error.HTTPError as answer:
        return answer.code == 401  # "log in first" is what an open registry says
    except (OSError, ValueError):
        return False


def _make(settings: Settings, *, builder: Builder, progress: Progress) -> None:
    packages.ensure(packages.BASE_IMAGE, progress=progress)
    progress.step(f"no registry is reached: making a Debian {RELEASE} as base image (1 to 2 minutes, once)")
    root = settings.cache / "debian.unfinished"
    shutil.rmtree(root, ignore_errors=True)
    mirror = os.environ.get("AGENTSERVICE_DEBIAN_MIRROR", MIRROR)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}", RELEASE, str(root), mirror]
    with Moving(progress, "debootstrap"):
        run(apart(command))
    slim(root)
    builder.import_root(image=STAND_IN, root=root, path=PATH)
    shutil.rmtree(root, ignore_errors=True)
    progress.step("the base image is made")


def slim(root: Path) -> None:
    """Remove what no container reads, and call Python `python` as Python's own image does."""
    for name in SUPERFLUOUS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    with contextlib.suppress(FileExistsError):
        (root / "usr/bin/python").symlink_to("python3")
