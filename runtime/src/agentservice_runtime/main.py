"""Decides what the program `agentservice-runtime` reads at start, and how it says that it cannot serve."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentservice_api import names
from agentservice_runtime.configuration import load, role_of
from agentservice_runtime.frugal import UNUSED, unseen
from agentservice_runtime.rejected import EX_CONFIG, ConfigurationRejected, StartFailed

TERMINATION_LOG: Final = Path("/dev/termination-log")
"""Where the kubelet reads a container's last words (`terminationMessagePath`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the agent of the configuration file. Returns the exit code."""
    options = _parser().parse_args(arguments)
    # the user's package stands in the working directory (/app in the image)
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        config = load(options.config)
        role = role_of(os.environ)
        with unseen(*UNUSED):
            from agentservice_runtime.serve import serve

        serve(
            config,
            secrets_dir=options.secrets_dir,
            host=options.host,
            port=options.port,
            revision=os.environ.get("AGENTSERVICE_REVISION", ""),
            role=role,
        )
    except ConfigurationRejected as error:
        return _last_words(str(error), options.termination_log, code=EX_CONFIG)
    except StartFailed as error:
        return _last_words(str(error), options.termination_log, code=1)
    except Exception as error:
        # no configuration should lead here; what does is told by type and place, for a message may hold anything
        from agentservice_runtime.logs import error_types, frames

        where = (frames(error) or ["an unknown place"])[-1]
        return _last_words(f"the runtime failed: {error_types(error)[0]} at {where}", options.termination_log, code=1)
    return 0


def _parser() -> argparse.ArgumentParser:
    environ = os.environ
    parser = argparse.ArgumentParser(prog="agentservice-runtime", description="Serve one agent over HTTP.")
    parser.add_argument(
        "--config",
        type=Path,
        default=environ.get("AGENTSERVICE_CONFIG", f"{names.CONFIG_MOUNT_PATH}/{names.CONFIG_FILE}"),
    )
    parser.add_argument(
        "--secrets-dir", type=Path, default=environ.get("AGENTSERVICE_SECRETS_DIR", names.SECRETS_MOUNT_PATH)
    )
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104  a pod's only interface is the pod's
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help=argparse.SUPPRESS)
    return parser


def _last_words(message: str, log: Path, *, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"{line}\n")
    # a directory entry that does not exist is not made: outside of a pod nobody reads it
    if log.exists():
        log.write_text(line, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
