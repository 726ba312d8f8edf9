"""What a waiting person sees: steps with the time they took, and counters that move."""

import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

QUIET_SECONDS = 15.0
"""How often a counter is repeated where the output is not a terminal (a CI log)."""


def duration(seconds: float) -> str:
    """`4 min 10 s`, `12.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    return f"{whole // 60} min {whole % 60:02d} s"


@dataclass
class Progress:
    """Prints whole lines only, so that steps of several threads may interleave."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    _line: threading.Lock = field(default_factory=threading.Lock, init=False)
    _shown: float = field(default=float("-inf"), init=False)
    _open: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed(self) -> float:
        return self.clock() - self.started

    def step(self, text: str) -> None:
        """Something is done, or begins."""
        with self._line:
            self._close()
            self.stream.write(f"{duration(self.elapsed):>12}  {text}\n")
            self.stream.flush()

    def counter(self, text: str) -> None:
        """Something moves: overwritten on a terminal, repeated now and then elsewhere."""
        with self._line:
            if self.stream.isatty():
                self.stream.write(f"\r\x1b[K{duration(self.elapsed):>12}  {text}")
                self._open = True
            elif self.clock() - self._shown >= QUIET_SECONDS:
                self._shown = self.clock()
                self.stream.write(f"{duration(self.elapsed):>12}  {text}\n")
            self.stream.flush()

    def _close(self) -> None:
        if self._open:
            self.stream.write("\r\x1b[K")
            self._open = False


class Moving:
    """A counter that repeats itself with the time that passed, so that a silent compiler does not look like a dead one."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress = progress
        self._text = text
        self._begun = progress.elapsed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def show(self, text: str) -> None:
        self._text = text
        self._progress.counter(f"{text}, {duration(self._progress.elapsed - self._begun)}")

    def __enter__(self) -> "Moving":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(1):
            self.show(self._text)
