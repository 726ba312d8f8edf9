"""One at a time, across processes: a lock file, which the kernel gives back however its holder ends."""

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(path: Path, *, waiting: Callable[[], None]) -> Generator[None]:
    """Hold the lock. `waiting` is called once when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
