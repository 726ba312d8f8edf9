"""Decides what `agentservice init` writes: a package with an agent that works at once. Nothing is ever overwritten."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from agentservice_cli import __version__
from agentservice_cli.exits import CliError

_MAX_NAME_LENGTH = 52
_FILES = {
    "agent.yaml": "agent.yaml.tmpl",
    "{package}/__init__.py": "package/__init__.py.tmpl",
    "{package}/agent.py": "package/agent.py.tmpl",
    "tests/test_agent.py": "tests/test_agent.py.tmpl",
    "pyproject.toml": "pyproject.toml.tmpl",
    "Dockerfile": "Dockerfile.tmpl",
    ".gitignore": "gitignore.tmpl",
    ".dockerignore": "dockerignore.tmpl",
    "README.md": "README.md.tmpl",
}


def package_of(name: str) -> str:
    """Return the Python package of the agent `name`. Raises CliError for a name that cannot be both."""
    if len(name) > _MAX_NAME_LENGTH or re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) is None:
        raise CliError(
            f"{name!r} cannot name an agent",
            mend=f"at most {_MAX_NAME_LENGTH} of a-z, 0-9 and '-', beginning with a letter, ending with a letter or digit: my-agent",
        )
    package = name.replace("-", "_")
    taken = {
        "tests",
        "agentservice_api",
        "agentservice_runtime",
        "agentservice_cli",
        "agentservice_operator",
        "pydantic_ai",
    }
    import sys

    if keyword.iskeyword(package) or package in taken or package in sys.stdlib_module_names:
        raise CliError(f"{name!r} is the name of a Python module already", mend=f"take another: {name}-agent")
    return package


def content_of(name: str) -> Mapping[str, str]:
    """Return each file's path below the new folder and its text. Raises CliError."""
    package = package_of(name)
    templates = files("agentservice_cli") / "templates"
    words = {"{name}": name, "{package}": package, "{version}": __version__}
    written: dict[str, str] = {}
    for path, template in _FILES.items():
        text = templates.joinpath(template).read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        written[path.replace("{package}", package)] = text
    return written


def create(name: str, *, parent: Path) -> tuple[Path, ...]:
    """Write the package into `parent/name` and return the files. Raises CliError and writes nothing when one exists."""
    content = content_of(name)
    folder = parent / name
    existing = [path for path in content if (folder / path).exists()]
    if existing:
        raise CliError(
            f"{folder} already holds {', '.join(existing[:3])}{' …' if len(existing) > 3 else ''}",
            mend="nothing was written; take another name or an empty folder",
        )
    written: list[Path] = []
    try:
        for path, text in content.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
            written.append(file)
    except OSError as error:
        raise CliError(
            f"cannot write below {folder}: {error.strerror}", mend="check the folder's permissions"
        ) from None
    return tuple(written)
