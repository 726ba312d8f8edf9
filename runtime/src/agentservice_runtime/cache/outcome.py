"""Decides in which words callers, logs and metrics hear what the cache did for a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry

from agentservice_api.series import PodSeries
from agentservice_runtime.metrics import counter

HEADER: Final = "X-Cache"


class Unavailable(Exception):  # noqa: N818  no error: the cache is done without
    """Redis cannot be asked."""


class Outcome(StrEnum):
    """What the cache did for a run."""

    HIT = "hit"
    """The answer was kept."""
    SHARED = "shared"
    """The answer was being made for an equal run, which this one waited for."""
    MISS = "miss"
    """The model was asked."""
    BYPASS = "bypass"
    """The cache was not asked: nobody knows who the caller is, or the caller did not want it."""
    UNAVAILABLE = "unavailable"
    """Redis could not be asked, so the model was."""

    @property
    def told(self) -> str:
        """The word for callers: hit, miss or bypass."""
        match self:
            case Outcome.HIT | Outcome.SHARED:
                return "hit"
            case Outcome.MISS | Outcome.UNAVAILABLE:
                return "miss"
            case Outcome.BYPASS:
                return "bypass"


class NotKept(StrEnum):
    """Why the answer of a run that ended well is not kept."""

    TOOL = "tool"
    """A tool was called that spec.cache.cacheableTools does not name."""
    CUT = "cut"
    """The answer is not whole: cut at a limit, or filtered."""
    OTHER_MODEL = "other_model"
    """A fallback answered in place of the model that the key names."""
    TOO_LARGE = "too_large"
    NO_ANSWER = "no_answer"
    """The run ended with something else than an answer, for instance with a tool call to approve."""


@dataclass(kw_only=True)
class Note:
    """What is known of one run."""

    outcome: Outcome | None = None
    """None: not yet decided."""
    when_decided: Callable[[], None] | None = None
    """Called once it is."""

    def decide(self, outcome: Outcome) -> None:
        """Say it, once."""
        self.outcome = outcome
        if self.when_decided is not None:
            self.when_decided()

    @property
    def is_hit(self) -> bool:
        """Whether the answer was made by another run."""
        return self.outcome in (Outcome.HIT, Outcome.SHARED)


class CacheMetrics:
    """The series of the cache."""

    def __init__(self, registry: CollectorRegistry, *, agent_name: str) -> None:
        self._agent = agent_name
        self._requests = counter(registry, PodSeries.CACHE_RUNS)
        self._not_kept = counter(registry, PodSeries.CACHE_NOT_KEPT)
        self._saved = counter(registry, PodSeries.CACHE_SAVED)
        for outcome in Outcome:
            self._requests.labels(agent_name, outcome)
        for reason in NotKept:
            self._not_kept.labels(agent_name, reason)
        self._saved.labels(agent_name)

    def counted(self, outcome: Outcome) -> None:
        """Count a run."""
        self._requests.labels(self._agent, outcome).inc()

    def not_kept(self, reason: NotKept) -> None:
        """Count an answer that is not kept."""
        self._not_kept.labels(self._agent, reason).inc()

    def saved(self, tokens: int) -> None:
        """Count what a hit has saved."""
        self._saved.labels(self._agent).inc(tokens)
