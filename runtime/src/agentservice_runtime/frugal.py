"""Decides that a library is not loaded by those who only look whether it is installed.

pydantic_graph, and so pydantic-ai, imports logfire wherever it is there, and redis OpenTelemetry's SDK: 30 MB and half a
second for agents that are not traced. httpx imports rich and pygments for a command line, uvicorn watchfiles for a developer's
reload, Starlette a parser of forms: 5 MB that nobody here uses.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

UNUSED: Final = ("logfire", "opentelemetry.sdk", "rich", "pygments", "watchfiles", "python_multipart", "multipart")


@contextmanager
def unseen(*names: str) -> Generator[None]:
    """Let imports inside of it find none of these modules; later ones, the user's for instance, find them."""
    modules = cast("dict[str, Any]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
