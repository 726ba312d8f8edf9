"""Decides which series `/metrics` shows. The names are those of the production guide, so its dashboards fit."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
"""Seconds: agents think for minutes."""

SUCCESS: Final = "success"
CANCELLED: Final = "cancelled"


class Metrics:
    """The series of one agent, in a registry of their own."""

    def __init__(self, *, agent_name: str) -> None:
        self.registry = CollectorRegistry()
        self._agent = agent_name
        label = ("agent_name",)
        self._requests = Counter(
            "pydantic_ai_requests",
            "Runs by outcome: success, cancelled, or the category of the error.",
            ("agent_name", "status"),
            registry=self.registry,
        )
        self._duration = Histogram(
            "pydantic_ai_request_duration_seconds",
            "Seconds that runs took.",
            label,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "pydantic_ai_tokens_used",
            "Tokens used, input and output.",
            ("agent_name", "token_type"),
            registry=self.registry,
        )
        self._retries = Counter(
            "agentservice_model_retries",
            "Model requests that were sent again to the same model, by the category of the failure.",
            ("agent_name", "model", "category"),
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "agentservice_model_fallbacks",
            "Model requests that another model took over, by that model and the category of the failure before it.",
            ("agent_name", "model", "category"),
            registry=self.registry,
        )
        self._active = Gauge("pydantic_ai_active_requests", "Runs under way.", label, registry=self.registry)
        # series that exist from the start have a rate from the start
        self._requests.labels(agent_name, SUCCESS)
        self._active.labels(agent_name).set(0)
        self._duration.labels(agent_name)
        for kind in ("input", "output"):
            self._tokens.labels(agent_name, kind)

    def started(self) -> None:
        """Count a run that begins."""
        self._active.labels(self._agent).inc()

    def finished(self, *, status: str, seconds: float, input_tokens: int, output_tokens: int) -> None:
        """Count a run that has ended, after `started`."""
        self._active.labels(self._agent).dec()
        self._requests.labels(self._agent, status).inc()
        self._duration.labels(self._agent).observe(seconds)
        self._tokens.labels(self._agent, "input").inc(input_tokens)
        self._tokens.labels(self._agent, "output").inc(output_tokens)

    def retried(self, *, model: str, category: str) -> None:
        """Count a model request that is sent to ``model`` again."""
        self._retries.labels(self._agent, model, category).inc()

    def fell_back(self, *, model: str, category: str) -> None:
        """Count a model request that ``model`` takes over."""
        self._fallbacks.labels(self._agent, model, category).inc()

    def refused(self, *, status: str) -> None:
        """Count a request that never became a run."""
        self._requests.labels(self._agent, status).inc()

    def exposition(self) -> tuple[bytes, str]:
        """Return the text and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
