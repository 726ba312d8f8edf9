"""The entry point: runs a command and turns whatever it raises into one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.terminal import complain


def main() -> None:
    """Run the command of this process."""
    program = "kubectl agentservice" if Path(sys.argv[0]).name.startswith("kubectl-") else "agentservice"
    sys.exit(run(sys.argv[1:], program=program))


def run(arguments: Sequence[str], *, program: str = "agentservice") -> int:
    """Run one command and return its exit code."""
    from agentservice_cli.commands import app

    try:
        code = app(list(arguments), prog_name=program, standalone_mode=False)
    except CliError as error:
        complain(error)
        return error.code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
            return ExitCode.OK
        words = " ".join(word for word in arguments[:1] if not word.startswith("-"))
        complain(CliError(error.format_message(), mend=f"see: {program} {words + ' ' if words else ''}--help"))
        return ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception as error:  # the last resort: a bug of ours, told in one line
        if "AGENTSERVICE_DEBUG" in os.environ:
            raise
        complain(
            CliError(
                f"unexpected {type(error).__name__}: {error}",
                mend="this is a bug in agentservice: please report it with what AGENTSERVICE_DEBUG=1 prints",
            )
        )
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.OK
