"""Decides which changed files make a local run look again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from watchfiles import Change, DefaultFilter, watch

from agentservice_cli import manifests
from agentservice_cli.exits import CliError
from agentservice_cli.local.options import RunOptions
from agentservice_cli.local.sources import SECRETS_FOLDER

_POLL_MILLISECONDS = 200


def changes(
    options: RunOptions, has_code: Callable[[], bool], *, folder: Path, idle: Callable[[], None]
) -> Iterator[Sequence[Path]]:
    """Yield the relevant paths that changed, for ever; call `idle` a few times a second in between.

    Raises CliError when the system cannot watch so many folders.
    """
    files = frozenset(file.resolve() for file in manifests.files_of(options.files))
    while True:
        recursive = has_code()
        paths = watched_paths(files, folder, recursive=recursive)
        try:
            for found in watch(
                *paths,
                recursive=recursive,
                watch_filter=relevance(files, folder),
                yield_on_timeout=True,
                rust_timeout=_POLL_MILLISECONDS,
                raise_interrupt=True,
            ):
                if not found:
                    idle()
                    continue
                yield sorted({Path(path) for _, path in found})
                if has_code() != recursive or watched_paths(files, folder, recursive=recursive) != paths:
                    break
        except OSError as error:
            raise CliError(
                f"cannot watch {folder} for changes: {error.strerror or error}",
                mend="raise fs.inotify.max_user_watches, or serve without watching: --no-reload",
            ) from None


def watched_paths(files: Collection[Path], folder: Path, *, recursive: bool) -> frozenset[Path]:
    """The whole tree of an agent with code; otherwise single folders, because the folder may be somebody's home.

    Folders, never files: an editor that replaces a file would end the watch of the old one.
    """
    around = {folder, *(file.parent for file in files)}
    secrets = folder / SECRETS_FOLDER
    if recursive or not secrets.is_dir():
        return frozenset(around)
    return frozenset({*around, secrets, *(path for path in secrets.iterdir() if path.is_dir())})


def relevance(files: Collection[Path], folder: Path) -> Callable[[Change, str], bool]:
    """Return which changed paths matter: Python code, the manifests, `.secrets`; not what programs write beside them."""
    default = DefaultFilter()
    secrets = folder / SECRETS_FOLDER

    def matters(change: Change, path: str) -> bool:
        changed = Path(path)
        if changed in files or changed == secrets or secrets in changed.parents:
            return True
        return changed.suffix == ".py" and default(change, path)

    return matters
