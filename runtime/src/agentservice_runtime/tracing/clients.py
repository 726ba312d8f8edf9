"""Decides whether a model provider's HTTP client is traced: where the process is.

The instrumentation of httpx2 finds its own transports by itself, and no other.
"""

from __future__ import annotations

import sys
from typing import Any


def traced(client: Any) -> Any:
    """Return an httpx2 client whose requests have spans, and say so to the provider, if others have."""
    instrumentation = sys.modules.get("opentelemetry.instrumentation.httpx")
    if instrumentation is not None:
        instrumentor = instrumentation.HTTPX2ClientInstrumentor
        if instrumentor().is_instrumented_by_opentelemetry:
            instrumentor.instrument_client(client)
    return client
