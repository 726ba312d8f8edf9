"""Decides the life of `agentservice run`: start, watch, reload, stop.

The watching process reads the manifest; the serving one is started anew for each change, because Python cannot
unload a user's modules. A change that is not valid is reported and what serves goes on serving. A change of Secret
files alone restarts nothing: the runtime reads keys again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agentservice_cli import manifests
from agentservice_cli.exits import CliError, ExitCode
from agentservice_cli.local.agent import LocalAgent, local_agent, parse_agent
from agentservice_cli.local.launch import Launch, launch_folder
from agentservice_cli.local.options import RunOptions
from agentservice_cli.local.running import LocalRun, recorded
from agentservice_cli.local.sample import question
from agentservice_cli.local.sources import read_sources
from agentservice_cli.local.watching import changes
from agentservice_cli.terminal import Tone, complain, note

_RELOAD_PATIENCE_SECONDS = 5.0
"""How long runs may finish when the code changed; at Ctrl-C they get the manifest's drain timeout."""


def run(options: RunOptions, *, reload: bool) -> ExitCode:
    """Serve the agent until Ctrl-C. Raises CliError when it cannot start."""
    folder = manifests.read(options.files).folder
    agent = load(options)
    port_is_free(options.host, options.port)
    url = f"http://{_reachable(options.host)}:{options.port}"
    with _signals_as_interrupts(), launch_folder() as private:
        launch = Launch(folder=private, code=str(folder), host=options.host, port=options.port, revision=agent.revision)
        if not reload:
            return _in_this_process(launch, agent, url)
        server = Server(launch)
        token = agent.token or ""
        with recorded(LocalRun(name=agent.config.name, url=url, pid=os.getpid(), token=token)):
            return _watched(options, server, agent, url=url, folder=folder)


def load(options: RunOptions, *, token: str | None = None) -> LocalAgent:
    """Read the manifest and its sources. Raises CliError."""
    found = manifests.read(options.files)
    document = found.agent(options.name)
    resource = parse_agent(document.content, origin=document.origin, namespace=options.namespace)
    sources = read_sources(found, overrides=options.secrets)
    return local_agent(resource, sources, token=token, pod=os.environ.get("POD_NAME"))


def _in_this_process(launch: Launch, agent: LocalAgent, url: str) -> ExitCode:
    from agentservice_cli.local.serving import serve

    launch.write(agent)
    os.environ.update(agent.environment)
    _announce(agent, url)
    with recorded(LocalRun(name=agent.config.name, url=url, pid=os.getpid(), token=agent.token or "")):
        serve(launch)
    return ExitCode.OK


def _watched(options: RunOptions, server: Server, agent: LocalAgent, *, url: str, folder: Path) -> ExitCode:
    try:
        note(f"starting {agent.config.name} …")
        server.start(agent)
        _report_start(server, agent, url)
        for changed in changes(options, lambda: server.has_code, folder=folder, idle=server.notice_end):
            try:
                fresh = load(options, token=agent.token)
            except CliError as error:
                complain(error)
                note("the last good version serves on" if server.is_running else "waiting for a change")
                continue
            agent = _take_over(server, agent, fresh, changed=changed, folder=folder, url=url)
    except KeyboardInterrupt:
        note("\nstopping: what runs may finish; Ctrl-C again ends it")
        try:
            server.stop(patience=float(agent.config.serving.drain_timeout_seconds))
        except KeyboardInterrupt:
            note("ended")
    finally:
        server.stop(patience=0)
    return ExitCode.OK


def _take_over(
    server: Server, old: LocalAgent, new: LocalAgent, *, changed: Sequence[Path], folder: Path, url: str
) -> LocalAgent:
    code_changed = any(path.suffix == ".py" for path in changed)
    same = new.config == old.config and new.environment == old.environment
    if server.is_running and same and not code_changed:
        if new.secret_files != old.secret_files:
            server.launch.write_secrets(new.secret_files)
            note("Secret files changed: read again, nothing restarted", Tone.GOOD)
        return new
    shown = ", ".join(str(path.relative_to(folder) if path.is_relative_to(folder) else path) for path in changed[:3])
    note(f"changed: {shown}" + (" …" if len(changed) > 3 else ""))
    server.stop(patience=_RELOAD_PATIENCE_SECONDS)
    server.start(new)
    _report_start(server, new, url, again=True)
    return new


class Server:
    """The serving process. `launch` says where its files are."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self.has_code = False
        """Whether what was started last brings Python code of its own."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, agent: LocalAgent) -> None:
        """Start serving `agent`; nothing must be running."""
        self.launch = replace(self.launch, revision=agent.revision)
        self.launch.write(agent)
        self.has_code = agent.has_code
        reading, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agentservice_cli.local.serving", self.launch.folder, str(reading)],
                env={**os.environ, **agent.environment},
                pass_fds=(reading,),
                # A session of its own: Ctrl-C reaches the watching process alone, which then asks this one to stop.
                start_new_session=True,
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(reading)

    def notice_end(self) -> None:
        """Say once that the process ended by itself."""
        process = self._process
        if process is None or process.poll() is None:
            return
        self._release()
        note(f"the agent ended with code {process.returncode}: see above. Waiting for a change", Tone.BAD)

    def stop(self, *, patience: float) -> None:
        """Ask the process to finish what runs and end it after `patience` seconds. Nothing runs: nothing happens."""
        process = self._process
        if process is not None and process.poll() is None:
            # Not SIGTERM: that is a pod's, which first waits until no Service sends requests any more.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._release()

    def _release(self) -> None:
        self._process = None
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None


def _report_start(server: Server, agent: LocalAgent, url: str, *, again: bool = False) -> None:
    deadline = time.monotonic() + 60
    while server.is_running and time.monotonic() < deadline:
        if _is_ready(url) and server.is_running:
            _announce(agent, url, again=again)
            return
        time.sleep(0.05)
    if server.is_running:
        note("the agent is not ready after 60 s: see its log above", Tone.CAUTION)
    server.notice_end()


def _announce(agent: LocalAgent, url: str, *, again: bool = False) -> None:
    name, model = agent.config.name, agent.config.model.name or "of the agent"
    note(f"{name} answers {'again ' if again else ''}at {url} (revision {agent.revision}, model {model})", Tone.GOOD)
    if again:
        return
    typed = agent.config.agent.input
    note(f"  ask it   agentservice ask {question(typed.schema_ if typed else None)}")
    note(f"  its API  {url}/docs")
    note("  stop it  Ctrl-C")
    for text in agent.notes:
        note(f"  note: {text}", Tone.CAUTION)


def _is_ready(url: str) -> bool:
    # No proxy: the address is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/ready", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def port_is_free(host: str, port: int) -> None:
    """Raise CliError when nobody could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise CliError(
                f"cannot listen on {host}:{port}: {reason}", mend=f"take another port: --port {port + 1}"
            ) from None


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


@contextmanager
def _signals_as_interrupts() -> Generator[None]:
    """Treat SIGTERM as Ctrl-C, and SIGINT too where a shell starts its background jobs with SIGINT ignored."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
