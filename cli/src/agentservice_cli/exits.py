"""Decides how a command ends: the exit codes that scripts may rely on, and the one line that a failure prints."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script learns from a command. 64 is EX_USAGE of sysexits.h, 130 is 128 + SIGINT as shells have it."""

    OK = 0
    FAILED = 1
    DIFFERS = 2
    """`plan`: applying the manifest would change something. Nothing else ends so, mistyped options included."""
    NOT_READY = 3
    """`status`: at least one of the agents asked for is not Ready."""
    USAGE = 64
    INTERRUPTED = 130


class CliError(Exception):
    """A failure that the person at the terminal can do something about.

    `message` says what is wrong and names the field, file or object; `mend` what to do next (may be empty). Neither
    ever holds the value of a Secret.
    """

    def __init__(self, message: str, *, mend: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        self.message = message
        self.mend = mend
        self.code = code
        super().__init__(f"{message}: {mend}" if mend else message)
