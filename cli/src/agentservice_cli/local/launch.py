"""Decides how a served agent is handed from the watching process to the serving one: a private folder of files.

The folder holds `launch.json`, `config.json` and `secrets/NAME/KEY`, readable by this user only; it is gone when the
run ends. Secret files are replaced in one step, so that the runtime never reads half of a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agentservice_cli.local.agent import LocalAgent, SecretFiles

_LAUNCH = "launch.json"
_CONFIG = "config.json"
_SECRETS = "secrets"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What the serving process is told. `code` is put in front of the import path."""

    folder: str
    code: str
    host: str
    port: int
    revision: str

    @property
    def config(self) -> bytes:
        return (Path(self.folder) / _CONFIG).read_bytes()

    @property
    def secrets(self) -> Path:
        return Path(self.folder) / _SECRETS

    @classmethod
    def read(cls, folder: str) -> Launch:
        return cls(**json.loads((Path(folder) / _LAUNCH).read_bytes()))

    def write(self, agent: LocalAgent) -> None:
        """Write everything that the serving process reads."""
        folder = Path(self.folder)
        (folder / _LAUNCH).write_text(json.dumps(asdict(self)))
        (folder / _CONFIG).write_bytes(agent.config.to_json())
        self.write_secrets(agent.secret_files)

    def write_secrets(self, files: SecretFiles) -> None:
        """Replace the Secret files that changed and remove the ones that are gone."""
        wanted = {self.secrets / name / key: content for (name, key), content in files.items()}
        for path in self.secrets.glob("*/*"):
            if path not in wanted:
                path.unlink()
        for path, content in wanted.items():
            if path.is_file() and path.read_bytes() == content:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            fresh.replace(path)


@contextmanager
def launch_folder() -> Generator[str]:
    """Yield a folder that only this user can read (mode 0700) and remove it afterwards."""
    with TemporaryDirectory(prefix="agentservice-") as folder:
        (Path(folder) / _SECRETS).mkdir()
        yield folder
