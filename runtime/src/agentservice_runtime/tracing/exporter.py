"""Decides how spans reach a collector: cleaned, with the keys of this moment, and told about when they do not arrive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agentservice_runtime.logs import FIELDS, LOGGER
from agentservice_runtime.tracing.clean import Redact, cleaned

TRACES_PATH: Final = "/v1/traces"
_TIMEOUT_SECONDS: Final = 10.0
"""Of one batch, its repetitions included."""

Headers = Callable[[], Mapping[str, str]]


class CleanExporter(SpanExporter):
    """Sends to one place. Called on the thread of a BatchSpanProcessor, whose queue is bounded."""

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Headers,
        redact: Redact,
        with_content: bool,
        counted: Callable[[str, int], None],
    ) -> None:
        """``counted`` is told how many spans were ``sent`` or ``lost``."""
        session = requests.Session()
        # a header that holds a key is for the collector and for nobody that it names
        session.max_redirects = 0
        session.trust_env = False
        session.auth = _auth(headers)
        url = endpoint.rstrip("/")
        self._exporter = OTLPSpanExporter(
            endpoint=url if url.endswith(TRACES_PATH) else url + TRACES_PATH,
            timeout=_TIMEOUT_SECONDS,
            compression=Compression.Gzip,
            session=session,
        )
        self._redact = redact
        self._with_content = with_content
        self._counted = counted
        self._arrives = True
        self._logger = logging.getLogger(f"{LOGGER}.tracing")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send ``spans``, or lose them."""
        clean = [cleaned(span, redact=self._redact, with_content=self._with_content) for span in spans]
        result = self._exporter.export(clean)
        arrives = result is SpanExportResult.SUCCESS
        self._counted("sent" if arrives else "lost", len(spans))
        if arrives != self._arrives:
            self._arrives = arrives
            level, words = (logging.INFO, "traces arrive again") if arrives else (logging.WARNING, "traces are lost")
            self._logger.log(level, f"{words}: the collector", extra={FIELDS: {"spans": len(spans)}})
        return result

    def shutdown(self) -> None:
        """Send nothing any more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Keep nothing back: `export` sends at once."""
        return True


def _auth(headers: Headers) -> Callable[[Any], Any]:
    def put(request: Any) -> Any:
        request.headers.update(headers())
        return request

    return put
