"""Decides how `ask` finds a local run: each run leaves a note in a folder of this user and takes it away at its end."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A running `agentservice run`. `token` is empty when callers need none."""

    name: str
    url: str
    pid: int
    token: str = field(default="", repr=False)


def runs_folder() -> Path:
    """Return the folder of this user's notes (mode 0700): below XDG_RUNTIME_DIR, else the temporary folder.

    Raises OSError when the folder belongs to somebody else, who could otherwise plant a note.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "agentservice" if base else Path(tempfile.gettempdir()) / f"agentservice-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others")
    return folder


@contextmanager
def recorded(run: LocalRun) -> Generator[None]:
    """Leave a note about `run` while the block lasts. Where no note can be left the run works all the same."""
    try:
        note = runs_folder() / f"{run.pid}.json"
        with os.fdopen(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(run), file)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def local_runs() -> tuple[LocalRun, ...]:
    """Return the local runs whose process lives."""
    found: list[LocalRun] = []
    try:
        notes = sorted(runs_folder().glob("*.json"))
    except OSError:
        return ()
    for note in notes:
        try:
            run = LocalRun(**json.loads(note.read_text()))
            os.kill(run.pid, 0)
        except ProcessLookupError:
            note.unlink(missing_ok=True)
        except (OSError, ValueError, TypeError):
            continue  # half-written, or another version's
        else:
            found.append(run)
    return tuple(found)
