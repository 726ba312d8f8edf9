"""Images in a node's containerd: imported once, then shared by all later nodes as hard links.

Importing two images takes 10 to 60 s, linking an imported store less than 1 s. Layers are never written again, so links are
enough; the databases must be real copies.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.api import wait_until
from devcluster.locks import only_one
from devcluster.namespaces import Inside, run
from devcluster.node import PAUSE_IMAGE, SOCKET, Node

KEEP = 2
GENERATIONS = 6
"""How often a store may grow before it is made anew, without what nobody wants any more."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An image as a file, and what its image is called."""

    path: Path
    name: str | None = None
    """The full name inside the archive; None where nobody asked."""
    aliases: tuple[str, ...] = ()
    """Names that it gets besides."""


def pause_archive(pause: Path, archive: Path) -> None:
    """Write the image that holds a pod's namespaces: one static program, as `docker save` would write it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(pause, "pause")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, mode="w") as tar:
        for name, content in (("config.json", config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@dataclass(frozen=True, kw_only=True)
class Store:
    """One shared copy of a containerd root, with what was imported into it."""

    directory: Path
    images: frozenset[str]
    generation: int
    """How many times images were added to it; what they replaced is still in it."""
    made: float
    """When, in seconds of the file system's clock."""


def identity(archive: Archive) -> str:
    """What an archive is known by: the image's name, which carries a hash, else the file as it is now."""
    return archive.name or f"{archive.path} {archive.path.stat().st_mtime_ns}"


def choose(stores: Sequence[Store], *, wanted: frozenset[str]) -> Store | None:
    """The newest store that has all that is wanted, else the newest that may grow, else none: import everything anew."""
    newest = sorted(stores, key=lambda store: store.made, reverse=True)
    complete = [store for store in newest if wanted <= store.images]
    growing = [store for store in newest if store.generation < GENERATIONS]
    return next(iter([*complete, *growing]), None)


def start(node: Node, inside: Inside, *, archives: Sequence[Archive], stores: Path) -> None:
    """Start the node's containerd with these images in it: from a shared store, importing what that does not have."""
    own = node.directory / "containerd"
    if own.exists():
        _start_containerd(node, inside)
        return
    with only_one(stores / "lock", waiting=lambda: None):
        base = choose(_read(stores), wanted=frozenset(map(identity, archives)))
        if base is not None:
            _link(base.directory, own)
    had = base.images if base else frozenset[str]()
    new = [archive for archive in archives if identity(archive) not in had]
    _start_containerd(node, inside)
    load(inside, archives if new else [archive for archive in archives if archive.aliases])
    if new:
        _stop_containerd(node, inside)
        with only_one(stores / "lock", waiting=lambda: None):
            _publish(own, stores, images=had | set(map(identity, new)), generation=base.generation + 1 if base else 0)
        _start_containerd(node, inside)


def _read(stores: Path) -> list[Store]:
    found: list[Store] = []
    for described in stores.glob("*.json"):
        content = json.loads(described.read_text())
        found.append(
            Store(
                directory=described.with_suffix(""),
                images=frozenset(content["images"]),
                generation=int(content["generation"]),
                made=described.stat().st_mtime,
            )
        )
    return found


def _publish(own: Path, stores: Path, *, images: frozenset[str], generation: int) -> None:
    """Keep a stopped containerd's root for later nodes; its description is written last, and makes it count."""
    for left in stores.iterdir():
        if left.is_dir() and not left.with_name(f"{left.name}.json").exists():
            shutil.rmtree(left, ignore_errors=True)
    store = stores / uuid.uuid4().hex[:12]
    _link(own, store)
    unfinished = stores / "unfinished"
    unfinished.write_text(json.dumps({"images": sorted(images), "generation": generation}))
    unfinished.rename(store.with_name(f"{store.name}.json"))
    for old in sorted(_read(stores), key=lambda known: known.made)[:-KEEP]:
        old.directory.with_name(f"{old.directory.name}.json").unlink()
        shutil.rmtree(old.directory, ignore_errors=True)


def load(inside: Inside, archives: Sequence[Archive]) -> None:
    """Import archives into a running node, but for images that it has: names of ours carry hashes of their content."""
    images = ("ctr", "--address", SOCKET, "--namespace", "k8s.io", "images")
    there = set(run(inside.command(*images, "list", "--quiet")).split())
    for archive in archives:
        if archive.name not in there:
            run(inside.command(*images, "import", str(archive.path)))
        for alias in archive.aliases:
            run(inside.command(*images, "tag", "--force", archive.name or alias, alias))


def _start_containerd(node: Node, inside: Inside) -> None:
    inside.spawn(
        "containerd",
        node.containerd(),
        directory=node.directory,
        log=node.run / "log" / f"containerd-{node.number}.log",
    )
    wait_until("containerd", lambda: _answers(inside), timeout=60)


def _answers(inside: Inside) -> bool:
    return (
        subprocess.run(
            inside.command("ctr", "--address", SOCKET, "version"), capture_output=True, check=False
        ).returncode
        == 0
    )


def _stop_containerd(node: Node, inside: Inside) -> None:
    pid = inside.running("containerd", directory=node.directory)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        while inside.running("containerd", directory=node.directory) is not None:
            time.sleep(0.02)


def _link(source: Path, target: Path) -> None:
    run(["cp", "--archive", "--link", str(source), str(target)])
    for database in target.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
