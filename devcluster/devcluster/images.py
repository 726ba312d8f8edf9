"""Which images there are, and their archives: built when a source, the lock file or the base changed, else taken from the cache."""

import hashlib
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
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


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The images of examples/compose where no registry is reached. They stay in the builder's store: no archive is written."""

    agent: Image
    redis: Image
    postgres: Image
    nginx: Image
    prometheus: Image

    @property
    def all(self) -> tuple[Image, ...]:
        return (self.agent, self.redis, self.postgres, self.nginx, self.prometheus)


def built(settings: Settings, *, progress: Progress, examples: bool = True) -> Built:
    """The images' archives, from the cache or freshly built; without `examples` only our own two. Raises ClusterError."""
    with _maker(settings, progress=progress) as (maker, base):
        result = plan(REPOSITORY, base=base, archives=settings.cache / "images")
        if not examples:
            result = replace(result, examples=())
        for image in result.all:
            if not image.archive.exists():
                _build(image, base=base, runtime=result.runtime.name, maker=maker, progress=progress)
                _save(image, maker=maker, progress=progress)
    return result


def stack(settings: Settings, *, progress: Progress) -> Stack:
    """The images of examples/compose, each in the builder's store. Raises ClusterError."""
    with _maker(settings, progress=progress) as (maker, base):
        result = plan_stack(REPOSITORY, base=base, archives=settings.cache / "images")
        for image in result.all:
            if not maker.has(image.name):
                _build(image, base=base, runtime="", maker=maker, progress=progress)
    return result


@contextmanager
def _maker(settings: Settings, *, progress: Progress) -> Generator[tuple[Docker | Buildah, str]]:
    """What builds, and the base image. Nobody else builds meanwhile."""
    with only_one(
        settings.cache / "images.lock", waiting=lambda: progress.step("other images are being built: waiting")
    ):
        maker = builder.choose(cache=settings.cache)
        if isinstance(maker, Buildah):
            packages.ensure(packages.IMAGES, progress=progress)
            maker.prepare()
        yield maker, base_image.choose(settings, builder=maker, progress=progress)


def plan(repository: Path, *, base: str, archives: Path) -> Built:
    """Names, tags and archives of the images that a cluster gets, from the content of their sources."""
    planned = _Planning(repository, base=base, archives=archives)
    operator, runtime = planned.ours("operator", sources=["operator"]), planned.ours("runtime", sources=["runtime"])
    dockerfiles = sorted((repository / "examples").glob("*/Dockerfile"))
    examples = tuple(planned.example(path, kind="example", runtime=runtime) for path in dockerfiles)
    return Built(operator=operator, runtime=runtime, examples=examples)


def plan_stack(repository: Path, *, base: str, archives: Path) -> Stack:
    """Names and tags of the images of examples/compose, from the content of their sources."""
    planned = _Planning(repository, base=base, archives=archives)
    agent = planned.ours("cli", sources=["runtime", "cli"])

    def example(folder: str, kind: str) -> Image:
        return planned.example(repository / "examples" / folder / "Dockerfile", kind=kind, runtime=agent)

    return Stack(
        agent=agent,
        redis=example("redis", "example"),
        postgres=example("postgres", "example"),
        nginx=example("compose/nginx", "compose"),
        prometheus=example("compose/prometheus", "compose"),
    )


class _Planning:
    """How an image is named: its tag is a hash of what goes into it."""

    def __init__(self, repository: Path, *, base: str, archives: Path) -> None:
        self._repository = repository
        self._base = base
        self._archives = archives
        self._version = chart_version((repository / "charts" / "agentservice-operator" / "Chart.yaml").read_text())

    def ours(self, target: str, *, sources: list[str]) -> Image:
        """A target of the repository's Dockerfile."""
        paths = [self._repository / path for path in (*COMMON, *sources)]
        key = content_key(paths, root=self._repository, further=[self._base, target])
        dockerfile = self._repository / "Dockerfile"
        return self._image(target, key=key, context=self._repository, dockerfile=dockerfile, target=target)

    def example(self, dockerfile: Path, *, kind: str, runtime: Image) -> Image:
        """An image of a folder of the examples, perhaps on top of the runtime's."""
        below = [runtime.tag] if "RUNTIME_IMAGE" in declared_arguments(dockerfile.read_text()) else []
        key = content_key([dockerfile.parent], root=self._repository, further=[self._base, *below])
        return self._image(
            f"{kind}-{dockerfile.parent.name}", key=key, context=dockerfile.parent, dockerfile=dockerfile
        )

    def _image(self, name: str, *, key: str, context: Path, dockerfile: Path, target: str | None = None) -> Image:
        repository = f"localhost/agentservice-{name}"
        return Image(
            repository=repository,
            tag=key,
            aliases=(f"{repository}:{self._version}",),
            context=context,
            dockerfile=dockerfile,
            target=target,
            archive=self._archives / f"agentservice-{name}-{key}.tar",
        )


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


def _save(image: Image, *, maker: Docker | Buildah, progress: Progress) -> None:
    with Moving(progress, f"writing image {image.name}"):
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
