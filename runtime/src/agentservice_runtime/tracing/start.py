"""Decides what is traced and where it goes: Logfire where there is a token, the collector of `otlp`, or both.

There is one provider, which user code finds as the global one: its own spans nest under the run's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentservice_api import RuntimeConfig
from agentservice_runtime.logs import FIELDS, LOGGER
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles

_FIELD: Final = "spec.observability"
_PROBES: Final = "/health,/ready,/metrics,/docs"
_INSTRUMENTED: Final = (
    ("httpx2", "opentelemetry.instrumentation.httpx", "HTTPX2ClientInstrumentor"),
    ("httpx", "opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
    ("redis", "opentelemetry.instrumentation.redis", "RedisInstrumentor"),
    ("sqlalchemy", "opentelemetry.instrumentation.sqlalchemy", "SQLAlchemyInstrumentor"),
    ("asyncpg", "opentelemetry.instrumentation.asyncpg", "AsyncPGInstrumentor"),
)
"""Library, and what instruments it where it is installed."""
_KNOWN_TOO: Final = (("sqlalchemy", "2.1."),)
"""Versions that are traced as others are, though what instruments them does not say so yet."""
_END_SECONDS: Final = 1.0
"""To send what is left when the process ends."""


class Tracing:
    """Traces under way. Make it before user code is imported: engines and clients made then are traced too."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def watch(self, app: Any) -> None:
        """Give each request of the application a span that ends with its answer."""
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=self._provider, excluded_urls=_PROBES, exclude_spans=["receive", "send"]
        )

    def end(self) -> None:
        """Send what is left, for a second: a collector that is away holds nobody up."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_END_SECONDS)


def start_tracing(config: RuntimeConfig, *, secrets: SecretFiles, metrics: Metrics, revision: str) -> Tracing | None:
    """Trace from now on; None where nothing is to be traced. Raises ConfigurationRejected without its packages."""
    if not config.observability.is_traced:
        return None
    try:
        provider = _provider(config, secrets=secrets, metrics=metrics, revision=revision)
        _instrument(provider, with_content=config.observability.include_content)
    except ImportError as error:
        extra = "otel" if config.observability.logfire is None else "logfire"
        raise ConfigurationRejected(
            _FIELD,
            f"traces need the package {error.name!r}, which this image lacks: install agentservice-runtime[{extra}]",
        ) from None
    return Tracing(provider)


def _provider(config: RuntimeConfig, *, secrets: SecretFiles, metrics: Metrics, revision: str) -> Any:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from agentservice_runtime.tracing.sampling import sampler

    spec = config.observability
    # each lost batch would be another line of a library whose text is withheld; ours says it once
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    processors = [BatchSpanProcessor(exporter) for exporter in _exporters(config, secrets=secrets, metrics=metrics)]
    percent = 100 if spec.otlp is None else spec.otlp.sample_percent
    attributes = _resource(config, revision=revision, environ=os.environ)
    if spec.logfire is not None:
        import logfire

        # it sends nothing by itself: what it would send has not been cleaned
        logfire.configure(
            send_to_logfire=False,
            service_name=config.name,
            service_version=revision,
            environment=spec.environment,
            resource_attributes=attributes,
            console=False,
            metrics=False,
            inspect_arguments=False,
            distributed_tracing=True,
            additional_span_processors=processors,
            sampling=logfire.SamplingOptions(head=sampler(percent)),
        )
        return trace.get_tracer_provider()
    provider = TracerProvider(sampler=sampler(percent), resource=Resource.create(attributes), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return provider


def _exporters(config: RuntimeConfig, *, secrets: SecretFiles, metrics: Metrics) -> Iterator[Any]:
    from agentservice_runtime.tracing.exporter import CleanExporter

    spec = config.observability
    common: dict[str, Any] = {
        "redact": secrets.redact,
        "with_content": spec.include_content,
        "counted": metrics.exported,
    }
    if spec.otlp is not None:
        given = spec.otlp.headers_from

        def headers() -> Mapping[str, str]:
            values = {header.name: secrets.read(header.value_from.secret_key_ref) for header in given}
            return {name: value for name, value in values.items() if value is not None}

        yield CleanExporter(spec.otlp.endpoint, headers=headers, **common)
    if spec.logfire is not None:
        reference = spec.logfire.token_from.secret_key_ref

        def token() -> Mapping[str, str]:
            value = secrets.read(reference)
            return {} if value is None else {"Authorization": value}

        yield CleanExporter(_logfire_address(secrets.read(reference) or ""), headers=token, **common)


def _logfire_address(token: str) -> str:
    from logfire import AdvancedOptions

    return os.environ.get("LOGFIRE_BASE_URL") or AdvancedOptions().generate_base_url(token, warn_unknown_region=False)


def _resource(config: RuntimeConfig, *, revision: str, environ: Mapping[str, str]) -> dict[str, str]:
    known = {
        "service.name": config.name,
        "service.namespace": config.namespace,
        "service.version": revision,
        "service.instance.id": environ.get("POD_NAME", ""),
        "deployment.environment.name": config.observability.environment,
        "k8s.namespace.name": config.namespace if "POD_NAME" in environ else "",
        "k8s.pod.name": environ.get("POD_NAME", ""),
    }
    return {name: value for name, value in known.items() if value}


def _instrument(provider: Any, *, with_content: bool) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings

    # for all agents, those inside of tools too
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider, include_content=with_content))
    for library, module, name in _INSTRUMENTED:
        if importlib.util.find_spec(library) is None:
            continue
        instrumentor = getattr(importlib.import_module(module), name)()
        version = importlib.metadata.version(library)
        instrumentor.instrument(
            tracer_provider=provider,
            skip_dep_check=any(library == known and version.startswith(start) for known, start in _KNOWN_TOO),
        )
        if not instrumentor.is_instrumented_by_opentelemetry:
            logging.getLogger(f"{LOGGER}.tracing").warning(
                "a library is not traced: its version is not one that its instrumentation knows",
                extra={FIELDS: {"library": library, "version": version}},
            )
