"""Decides how answers reach the terminal: colour and layout for a person, plain columns and documents for a script.

What a command was asked for goes to stdout, everything about it to stderr, so that `agentservice ... | jq` works.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, cast

from agentservice_cli.exits import CliError


class OutputFormat(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Tone(StrEnum):
    """What a piece of text means; the value is the style that a colour terminal gives it."""

    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    CAUTION = "yellow"
    QUIET = "dim"
    STRONG = "bold"
    HEADING = "bold cyan"


@dataclass(frozen=True)
class Cell:
    """A piece of text and what it means."""

    text: str
    tone: Tone = Tone.PLAIN


def is_rich(stream: IO[str]) -> bool:
    """Whether `stream` is a person's terminal that shows colour (https://no-color.org, TERM=dumb)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def say(text: str = "", tone: Tone = Tone.PLAIN, *, to: IO[str] | None = None, end: str = "\n") -> None:
    """Write one line to stdout (or `to`). The text is never read as markup."""
    stream = sys.stdout if to is None else to
    if tone is Tone.PLAIN or not is_rich(stream):
        stream.write(text + end)
    else:
        from rich.style import Style

        stream.write(Style.parse(tone.value).render(text) + end)
    stream.flush()


def note(text: str, tone: Tone = Tone.QUIET) -> None:
    """Write one line about what goes on to stderr."""
    say(text, tone, to=sys.stderr)


def complain(error: CliError) -> None:
    """Write a failure: what is wrong, and below it what to do."""
    say("error: ", Tone.BAD, to=sys.stderr, end="")
    say(error.message, to=sys.stderr)
    for line in error.mend.splitlines():
        say(f"  {line}", Tone.CAUTION, to=sys.stderr)


def document(content: Any, output: OutputFormat) -> None:
    """Write `content` as JSON or YAML to stdout; a sequence as YAML becomes one document each."""
    if output is OutputFormat.YAML:
        say(to_yaml(content), end="")
    else:
        say(json.dumps(content, indent=2, ensure_ascii=False))


def to_yaml(content: Any) -> str:
    """Return YAML as people write it: keys in their order, long texts as blocks. A list: one document each."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """No aliases: a manifest that repeats an object says it twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)  # pyright: ignore[reportUnknownMemberType]
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120, "Dumper": Dumper}
    if isinstance(content, list):
        return str(cast("Any", yaml.dump_all(cast("list[Any]", content), explicit_start=True, **options)))
    return str(cast("Any", yaml.dump(content, **options)))


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> None:
    """Write columns to stdout: never cut for a script, wrapped in the last column for a person."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    if is_rich(sys.stdout):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(box=None, pad_edge=False, header_style=Tone.HEADING.value)
        for index, heading in enumerate(headings):
            last = index == len(headings) - 1
            grid.add_column(heading, no_wrap=not last, overflow="fold")
        for row in cells:
            grid.add_row(*(Text(cell.text, style=cell.tone.value) for cell in row))
        Console(highlight=False).print(grid)
        return
    lines = [list(headings), *([" ".join(cell.text.split()) for cell in row] for row in cells)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    for line in lines:
        say("   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def waiting(text: str) -> Generator[Callable[[str], None]]:
    """Show that something is going on, and yield what changes the words: a spinner for a person, nothing for a script."""
    if not is_rich(sys.stderr):
        yield lambda text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(text)) as status:
        yield lambda text: status.update(escape(text))


def confirm(question: str) -> bool:
    """Ask a yes-or-no question. Raises CliError where nobody can answer."""
    if not sys.stdin.isatty():
        raise CliError(f"{question} Nobody is there to answer", mend="pass --yes to go ahead without asking")
    note(f"{question} [y/N] ", Tone.STRONG)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def age(seconds: float) -> str:
    """Return a duration as kubectl writes ages: 45s, 12m, 7h, 3d. Negative ones (clocks differ) are 0s."""
    whole = max(0, int(seconds))
    steps: Mapping[str, int] = {"d": 86400, "h": 3600, "m": 60}
    for unit, size in steps.items():
        if whole >= 2 * size or (unit == "d" and whole >= size):
            return f"{whole // size}{unit}"
    return f"{whole}s"
