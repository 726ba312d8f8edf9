"""Which images there are, and their archives: built when a source, the lock file or the base changed, else taken from the cache."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from devcluster import base_image, builder, packages
from devcluster.builder import Buildah, Docker
from devcluster.errors import ClusterError
from devcluster.locks import only_one
from devcluster.progress import Moving, Progress
from devcluster.settings import REPOSITORY, Settings

KEEP = 3
COMMON = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "uv.lock",
    "api",
    "operator/pyproject.toml",
    "runtime/pyproject.toml",
    "cli/pyproject.toml",
)


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image to be had."""

    repository: str
    """`localhost/NAME`."""
    tag: str
    """A hash of everything that goes into it."""
    aliases: tuple[str, ...]
    """Further full names: manifests in this repository use the version as tag, which never changes while we work."""
    context: Path
    dockerfile: Path
    target: str | None
    archive: Path

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Built:
    """The images of this repository: ours, then the examples'."""

    operator: Image
    runtime: Image
    examples: tuple[Image, ...]

    @property
    def all(self) -> tuple[Image, ...]:
        return (self.operator, self.runtime, *self.examples)


def built(settings: Settings, *, progress: Progress, examples: bool = True) -> Built:
    """The images' archives, from the cache or freshly built; without `examples` only our own two. Raises ClusterError."""
    places = settings.cache / "images"
    with only_one(
        settings.cache / "images.lock", waiting=lambda: progress.step("other images are being built: waiting")
    ):
        maker = builder.choose(cache=settings.cache)
        if isinstance(maker, Buildah):
            packages.ensure(packages.IMAGES, progress=progress)
            maker.prepare()
        base = base_image.choose(settings, builder=maker, progress=progress)
        result = plan(REPOSITORY, base=base, archives=places)
        if not examples:
            result = replace(result, examples=())
        for image in result.all:
            if not image.archive.exists():
                _build(image, base=base, runtime=result.runtime.name, maker=maker, progress=progress)
    return result


def plan(repository: Path, *, base: str, archives: Path) -> Built:
    """Names, tags and archives of all images, from the content of their sources."""
    version = chart_version((repository / "charts" / "agentservice-operator" / "Chart.yaml").read_text())

    def image(name: str, *, key: str, context: Path, dockerfile: Path, target: str | None = None) -> Image:
        repository_name = f"localhost/{name}"
        return Image(
            repository=repository_name,
            tag=key,
            aliases=(f"{repository_name}:{version}",),
            context=context,
            dockerfile=dockerfile,
            target=target,
            archive=archives / f"{name}-{key}.tar",
        )

    def ours(part: str) -> Image:
        key = content_key([repository / path for path in (*COMMON, part)], root=repository, further=[base, part])
        return image(
            f"agentservice-{part}", key=key, context=repository, dockerfile=repository / "Dockerfile", target=part
        )

    operator, runtime = ours("operator"), ours("runtime")

    def example(dockerfile: Path) -> Image:
        below = [runtime.tag] if "RUNTIME_IMAGE" in declared_arguments(dockerfile.read_text()) else []
        key = content_key([dockerfile.parent], root=repository, further=[base, *below])
        return image(
            f"agentservice-example-{dockerfile.parent.name}", key=key, context=dockerfile.parent, dockerfile=dockerfile
        )

    examples = tuple(example(path) for path in sorted((repository / "examples").glob("*/Dockerfile")))
    return Built(operator=operator, runtime=runtime, examples=examples)


def chart_version(chart: str) -> str:
    """The version of everything here, as the chart has it. Raises ClusterError without one."""
    found = re.search(r"^appVersion: *\"?([\w.+-]+)", chart, re.MULTILINE)
    if not found:
        raise ClusterError("Chart.yaml has no appVersion")
    return found[1]


def content_key(paths: Iterable[Path], *, root: Path, further: Iterable[str]) -> str:
    """A hash of files and directories (without what Python leaves behind) and of further words."""
    digest = hashlib.sha256("\n".join(further).encode())
    for path in paths:
        files = (
            [path]
            if path.is_file()
            else sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        )
        for file in files:
            digest.update(f"\n{file.relative_to(root)} {file.stat().st_mode & 0o111}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def declared_arguments(dockerfile: str) -> set[str]:
    """The names that a Dockerfile takes by ARG."""
    return set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))


def push(settings: Settings, images: Built, *, registry: str, progress: Progress) -> None:
    """Send all images to a registry, for a cluster that is not on this machine."""
    maker = builder.choose(cache=settings.cache)
    for image in images.all:
        progress.step(f"pushing {image.name}")
        maker.push(image=image.name, destination=f"{registry}/{image.name.removeprefix('localhost/')}")


def _build(image: Image, *, base: str, runtime: str, maker: Docker | Buildah, progress: Progress) -> None:
    offered = {"BASE_IMAGE": base, "BASE": base, "RUNTIME_IMAGE": runtime}
    taken = declared_arguments(image.dockerfile.read_text())
    arguments = {name: value for name, value in offered.items() if name in taken}
    with Moving(progress, f"building image {image.name}"):
        maker.build(
            image=image.name,
            context=image.context,
            dockerfile=image.dockerfile,
            target=image.target,
            arguments=arguments,
        )
        image.archive.parent.mkdir(parents=True, exist_ok=True)
        unfinished = image.archive.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        maker.save(names=(image.name, *image.aliases), archive=unfinished)
    unfinished.rename(image.archive)
    size = image.archive.stat().st_size
    progress.step(f"image {image.name} is built, {size / 1e6:.0f} MB")
    _prune(image)


def _prune(image: Image) -> None:
    name = image.archive.name.removesuffix(f"-{image.tag}.tar")
    old = sorted(
        image.archive.parent.glob(f"{name}-{'?' * len(image.tag)}.tar"), key=lambda path: path.stat().st_mtime
    )[:-KEEP]
    for path in old:
        path.unlink()
