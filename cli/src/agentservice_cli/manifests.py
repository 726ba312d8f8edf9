"""Decides what a manifest file says: its YAML documents, and the AgentServices, Secrets and ConfigMaps among them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from agentservice_api.names import API_VERSION, KIND
from agentservice_cli.exits import CliError

Manifest = dict[str, Any]

_SUFFIXES = {".yaml", ".yml", ".json"}


@dataclass(frozen=True)
class Document:
    """One YAML document and where it stands: `origin` is `FILE:LINE`."""

    origin: str
    content: Manifest

    @property
    def name(self) -> str:
        return str(self._metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """The namespace that the document names; empty when it names none."""
        return str(self._metadata.get("namespace") or "")

    @property
    def _metadata(self) -> dict[str, Any]:
        metadata = self.content.get("metadata")
        return cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {}

    def is_kind(self, api_version: str, kind: str) -> bool:
        return self.content.get("apiVersion") == api_version and self.content.get("kind") == kind


@dataclass(frozen=True)
class Manifests:
    """Everything that the given files hold. `files` are what a change is watched for."""

    documents: tuple[Document, ...]
    files: tuple[Path, ...]

    @property
    def agents(self) -> tuple[Document, ...]:
        return self._of_kind(API_VERSION, KIND)

    @property
    def secrets(self) -> tuple[Document, ...]:
        return self._of_kind("v1", "Secret")

    @property
    def config_maps(self) -> tuple[Document, ...]:
        return self._of_kind("v1", "ConfigMap")

    @property
    def folder(self) -> Path:
        """The folder of the first file: where `.secrets` and the agent's code are looked for."""
        return self.files[0].resolve().parent if self.files else Path.cwd()

    def agent(self, name: str | None = None) -> Document:
        """The one AgentService, or the one called `name`. Raises CliError when it is not exactly one."""
        agents = self.agents
        if name is not None:
            agents = tuple(agent for agent in agents if agent.name == name)
        if len(agents) == 1:
            return agents[0]
        files = ", ".join(str(file) for file in self.files) or "stdin"
        names = ", ".join(agent.name for agent in self.agents)
        if len(agents) > 1:
            raise CliError(f"{files} holds several AgentServices: {names}", mend="add the name of the one you mean")
        if name is not None and names:
            raise CliError(f"{files} holds no AgentService {name!r}", mend=f"it holds: {names}")
        raise CliError(f"{files} holds no AgentService", mend=self._why_none())

    def _of_kind(self, api_version: str, kind: str) -> tuple[Document, ...]:
        return tuple(document for document in self.documents if document.is_kind(api_version, kind))

    def _why_none(self) -> str:
        for document in self.documents:
            if document.content.get("kind") == KIND:
                found = document.content.get("apiVersion")
                return f"{document.origin}: apiVersion is {found!r}, it must be {API_VERSION}"
        return f"a manifest begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`"


def files_of(paths: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that `paths` stand for, without reading them; `-` (stdin) is none. Raises CliError."""
    return tuple(file for path in paths if path != "-" for file in _files(Path(path)))


def read(paths: Sequence[str]) -> Manifests:
    """Read files, folders (their .yaml, .yml and .json files, not deeper) and `-` (stdin).

    Raises CliError that names the file, and for broken YAML the line and column.
    """
    documents: list[Document] = []
    files: list[Path] = []
    for path in paths:
        if path == "-":
            documents += _documents(sys.stdin.read(), "stdin")
            continue
        for file in _files(Path(path)):
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise CliError(f"cannot read {file}: {reason}", mend="check the path given with -f") from None
            files.append(file)
            documents += _documents(text, str(file))
    return Manifests(documents=tuple(documents), files=tuple(files))


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return (path,)
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not found:
        raise CliError(f"{path} is a folder without .yaml, .yml or .json files", mend="give a file with -f")
    return found


def _documents(text: str, origin: str) -> Iterator[Document]:
    loader = yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader
    try:
        nodes = list(yaml.compose_all(text, Loader=loader))
        contents: list[Any] = list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise CliError(f"{where}: {problem}", mend="mend the YAML there (indentation, quotes, colons)") from None
    for node, content in zip(nodes, contents, strict=True):
        if content is None:
            continue
        where = f"{origin}:{node.start_mark.line + 1}"
        if not isinstance(content, dict):
            raise CliError(
                f"{where}: a manifest is a mapping, this is a {type(content).__name__}", mend="check the file"
            )
        manifest = cast("Manifest", content)
        if manifest.get("kind") == "List" and isinstance(manifest.get("items"), list):
            items = cast("list[Any]", manifest["items"])
            yield from (Document(where, cast("Manifest", item)) for item in items if isinstance(item, dict))
        else:
            yield Document(where, manifest)


def plain(file: str) -> Manifest:
    """Return the one mapping that a YAML file holds. Raises CliError."""
    documents = read([file]).documents
    if len(documents) != 1:
        raise CliError(f"{file} must hold one YAML document, not {len(documents)}", mend="give another file")
    return documents[0].content
