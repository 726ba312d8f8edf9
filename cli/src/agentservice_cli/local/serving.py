"""The serving process of `agentservice run`: reads what it was handed, then is the runtime.

It ends when the watching process does, however that ended: it holds the reading end of a pipe whose writing end
closes with its parent. `python -m agentservice_cli.local.serving FOLDER PIPE`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.local.launch import Launch
from agentservice_cli.terminal import complain


def serve(launch: Launch) -> None:
    """Serve until SIGINT or SIGTERM. The environment is this process's own and already set.

    Raises CliError when the runtime refuses the configuration or cannot start.
    """
    sys.path.insert(0, launch.code)
    from agentservice_api import RuntimeConfig
    from agentservice_runtime.rejected import ConfigurationRejected, StartFailed
    from agentservice_runtime.serve import serve as serve_agent

    try:
        serve_agent(
            RuntimeConfig.from_json(launch.config),
            secrets_dir=Path(launch.secrets),
            host=launch.host,
            port=launch.port,
            revision=launch.revision,
        )
    except (ConfigurationRejected, StartFailed) as error:
        raise CliError(" ".join(str(error).split())) from None


def _end_with_parent(pipe: int, folder: str) -> None:
    os.read(pipe, 1)
    shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed could not: the folder holds Secrets
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    """Entry point of the process."""
    folder, pipe = sys.argv[1:3]
    # Until the server listens and has its own handler there is nothing to finish. An exception would not do: libraries
    # that are just being imported turn a KeyboardInterrupt into errors of theirs.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(ExitCode.INTERRUPTED))
    threading.Thread(target=_end_with_parent, args=(int(pipe), folder), daemon=True).start()
    # `python -m` puts the working directory first: a file there must not shadow a module of ours or of the agent.
    sys.path[:] = [path for path in sys.path if path not in ("", str(Path.cwd()))]
    try:
        serve(Launch.read(folder))
    except CliError as error:
        complain(error)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
