"""Decides what a Secret's key holds at this moment: the file ``NAME/KEY``, read again when it has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

from agentservice_api.spec import SecretKeySelector

_MIN_REDACTED: Final = 6
"""Characters. A shorter value would be found in innocent text."""


class SecretFiles:
    """The Secrets of this agent under one directory.

    The kubelet replaces a mounted key by renaming a directory link, so a change shows in the file's identity. A file
    that vanishes keeps its last value: a rotation must not fail a request.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._values: dict[tuple[str, str], tuple[tuple[int, int, int], str]] = {}
        self._seen: set[str] = set()

    def path(self, selector: SecretKeySelector) -> Path:
        """Return the file of ``selector``."""
        return self._directory / selector.name / selector.key

    def read(self, selector: SecretKeySelector) -> str | None:
        """Return the value without surrounding white space, or None when it was never there or is empty."""
        at = (selector.name, selector.key)
        known = self._values.get(at)
        path = self.path(selector)
        try:
            stat = path.stat()
            identity = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if known is not None and known[0] == identity:
                return known[1]
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return known[1] if known else None
        if not value:
            return known[1] if known else None
        self._values[at] = (identity, value)
        self._remember(value)
        return value

    def _remember(self, value: str) -> None:
        for text in (value, *value.split()):
            if len(text) >= _MIN_REDACTED and text.lower() not in ("bearer", "basic"):
                # as it is, and as it stands in a line of JSON
                self._seen |= {text, orjson.dumps(text).decode()[1:-1]}

    def redact(self, text: str) -> str:
        """Return ``text`` without any value that was ever read, old ones included."""
        for value in self._seen:
            if value in text:
                text = text.replace(value, "[redacted]")
        return text
