"""What a person sees of the command line itself: help, mistakes, bugs."""

import subprocess
import sys

import pytest

from agentservice_cli import commands
from agentservice_cli.exits import ExitCode
from agentservice_cli.main import run

COMMANDS = ("init", "run", "ask", "render", "plan", "status", "rollback", "cache", "tasks", "doctor", "version")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == ExitCode.OK
    assert "Usage: agentservice" in capsys.readouterr().out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert all(f"\n  {command}" in out for command in COMMANDS)


def test_no_command_at_all_shows_the_help_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.OK
    assert "Commands:" in "".join(capsys.readouterr())


def test_help_loads_nothing_that_is_slow_to_import() -> None:
    program = (
        "import sys; from agentservice_cli.main import run; code = run(['--help'])\n"
        "heavy = {'kubernetes', 'pydantic', 'pydantic_ai', 'yaml', 'rich', 'fastapi', 'watchfiles', 'agentservice_api'}\n"
        "sys.exit(f'loaded: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", [[], ["--all", "--tag", "x"], ["--tag", "x", "--prefix", "y"]])
def test_a_purge_must_say_exactly_what(what: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "purge", "hello", *what]) == ExitCode.USAGE
    assert "give one of --tag TAG, --prefix TEXT and --all" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["stauts"], ["run"], ["ask", "--input"], ["run", "-f", "x", "--port", "0"]])
def test_a_mistyped_command_line_never_ends_as_plan_does_when_something_would_change(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 64
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "--help" in err


def test_the_exit_codes_are_those_that_the_documentation_promises() -> None:
    promised = {"OK": 0, "FAILED": 1, "DIFFERS": 2, "NOT_READY": 3, "USAGE": 64, "INTERRUPTED": 130}
    assert {code.name: code.value for code in ExitCode} == promised


def test_a_bug_is_told_in_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("of our own making")

    monkeypatch.setattr(commands, "app", broken)
    assert run(["version"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "unexpected RuntimeError: of our own making" in err
    assert "Traceback" not in err


def test_versions_can_be_read_by_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert run(["version", "-o", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["agentservice"] == "0.1.0"


def test_the_versions_of_the_command_line_and_its_distribution_are_the_same() -> None:
    from importlib.metadata import version

    from agentservice_cli import __version__

    assert version("agentservice") == __version__
