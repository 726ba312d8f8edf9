"""Decides where the value behind a Secret or ConfigMap reference comes from when there is no cluster.

A Secret's key: `--secret NAME/KEY=...` first, then the file `.secrets/NAME/KEY` beside the manifest, then a Secret
among the manifests. A ConfigMap's key: a ConfigMap among the manifests.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from agentservice_cli.exits import CliError
from agentservice_cli.manifests import Document, Manifests

SECRETS_FOLDER = ".secrets"
_VARIABLE = "env:"

Data = Mapping[str, Mapping[str, bytes]]
"""Object name, key, value."""


class SourceKind(StrEnum):
    """What a reference points at."""

    SECRET = "Secret"  # noqa: S105  the kind's name
    CONFIG_MAP = "ConfigMap"


@dataclass(frozen=True)
class Missing:
    """A reference that no source answers; `key` is empty when the whole object is meant. `user` is the field that needs it."""

    kind: SourceKind
    name: str
    key: str
    user: str


@dataclass(frozen=True)
class Sources:
    """Every Secret and ConfigMap that is known here. `folder` is where `.secrets` is looked for."""

    folder: Path
    secrets: Data = field(default_factory=dict[str, dict[str, bytes]], repr=False)
    config_maps: Data = field(default_factory=dict[str, dict[str, bytes]])

    def of(self, kind: SourceKind) -> Data:
        return self.secrets if kind is SourceKind.SECRET else self.config_maps

    def value(self, kind: SourceKind, name: str, key: str) -> bytes | None:
        return self.of(kind).get(name, {}).get(key)


def read_sources(
    manifests: Manifests,
    *,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Sources:
    """Read all sources. `overrides` are the values of `--secret`, `environ` is what `env:NAME` among them names.

    Raises CliError for an override that is not `NAME/KEY=VALUE`, `=@FILE` or `=env:VARIABLE`, and for broken base64.
    """
    folder = folder or manifests.folder
    secrets: dict[str, dict[str, bytes]] = {}
    for document in manifests.secrets:
        secrets.setdefault(document.name, {}).update(_secret_data(document))
    for name, key, value in _files(folder / SECRETS_FOLDER):
        secrets.setdefault(name, {})[key] = value
    for override in overrides:
        name, key, value = _override(override, environ)
        secrets.setdefault(name, {})[key] = value
    config_maps: dict[str, dict[str, bytes]] = {}
    for document in manifests.config_maps:
        config_maps.setdefault(document.name, {}).update(_config_map_data(document))
    return Sources(folder=folder, secrets=secrets, config_maps=config_maps)


def missing_error(missing: Iterable[Missing], *, folder: Path) -> CliError:
    """Return the one error that names every missing reference, the field that needs it and how to give it."""
    entries = sorted(set(missing), key=lambda entry: (entry.kind, entry.name, entry.key, entry.user))
    lines: list[str] = []
    for entry in entries:
        what = f"{entry.kind} {entry.name}" + (f", key {entry.key}" if entry.key else "")
        lines.append(f"{what} (needed by {entry.user})")
    message = f"missing here: {lines[0]}" if len(lines) == 1 else "missing here:\n  " + "\n  ".join(lines)
    mends: list[str] = []
    secret = next((entry for entry in entries if entry.kind is SourceKind.SECRET), None)
    if secret is not None:
        key = secret.key or "KEY"
        mends.append(f"put the value into {folder / SECRETS_FOLDER / secret.name / key}")
        mends.append(f"or pass --secret {secret.name}/{key}=@FILE, or add the Secret to the manifest")
    config_map = next((entry for entry in entries if entry.kind is SourceKind.CONFIG_MAP), None)
    if config_map is not None:
        mends.append(f"add the ConfigMap {config_map.name} to the manifest, or give its file with another -f")
    return CliError(message, mend="\n".join(mends))


def without_final_newline(content: bytes) -> bytes:
    """Drop the newline that an editor or `echo` puts behind a single line; texts of several lines stay as they are."""
    stripped = content.removesuffix(b"\n").removesuffix(b"\r")
    return content if b"\n" in stripped else stripped


def _files(folder: Path) -> Iterable[tuple[str, str, bytes]]:
    if not folder.is_dir():
        return
    for file in sorted(folder.glob("*/*")):
        if file.is_file() and not file.name.startswith("."):
            try:
                yield file.parent.name, file.name, without_final_newline(file.read_bytes())
            except OSError as error:
                raise CliError(f"cannot read {file}: {error.strerror}", mend="check its permissions") from None


def _override(text: str, environ: Mapping[str, str]) -> tuple[str, str, bytes]:
    reference, equals, value = text.partition("=")
    name, slash, key = reference.partition("/")
    if not (equals and slash and name and key):
        # The text may hold the key itself: it is not repeated.
        raise CliError(
            "--secret takes NAME/KEY=VALUE, NAME/KEY=@FILE or NAME/KEY=env:VARIABLE",
            mend="for instance --secret openai/api-key=@key.txt",
        )
    if value.startswith(_VARIABLE):
        variable = value.removeprefix(_VARIABLE)
        if not environ.get(variable):
            raise CliError(
                f"--secret {name}/{key}: the variable {variable} is not set", mend=f"set {variable} to the value"
            )
        return name, key, environ[variable].encode()
    if not value.startswith("@"):
        return name, key, value.encode()
    file = Path(value[1:]).expanduser()
    try:
        return name, key, without_final_newline(file.read_bytes())
    except OSError as error:
        raise CliError(f"--secret {name}/{key}: cannot read {file}: {error.strerror}", mend="check the path") from None


def _secret_data(document: Document) -> Iterable[tuple[str, bytes]]:
    yield from _decoded(document, "data")
    for key, value in _members(document, "stringData"):
        yield key, value.encode()


def _config_map_data(document: Document) -> Iterable[tuple[str, bytes]]:
    for key, value in _members(document, "data"):
        yield key, value.encode()
    yield from _decoded(document, "binaryData")


def _decoded(document: Document, member: str) -> Iterable[tuple[str, bytes]]:
    for key, value in _members(document, member):
        try:
            yield key, base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise CliError(
                f"{document.origin}: {member}.{key} is not base64",
                mend="encode it (base64 -w0), or put plain text under stringData",
            ) from None


def _members(document: Document, member: str) -> Iterable[tuple[str, str]]:
    found: Any = document.content.get(member)
    if found is None:
        return
    if not isinstance(found, dict):
        raise CliError(f"{document.origin}: {member} must be a mapping of keys to texts", mend="mend the manifest")
    for key, value in cast("dict[str, Any]", found).items():
        if not isinstance(value, str):
            raise CliError(
                f"{document.origin}: {member}.{key} must be a text, not {type(value).__name__}", mend="put it in quotes"
            )
        yield key, value
