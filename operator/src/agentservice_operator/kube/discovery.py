"""Decides whether a group of APIs is there that no object of ours depends on: it is asked for, at most once a minute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agentservice_operator.kube.client import Client

CUSTOM_METRICS: Final = "custom.metrics.k8s.io"
"""From where a HorizontalPodAutoscaler takes a metric of pods (https://kubernetes.io/docs/reference/external-api/custom-metrics.v1beta2/)."""
ASK_SECONDS: Final = 60.0


class Discovery:
    """What the API server serves, as it said last. `clock` is monotonic seconds."""

    def __init__(self, *, client: Client, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._told: dict[str, tuple[float, bool]] = {}

    async def serves(self, group: str) -> bool:
        """Tell whether ``group`` is registered. Raises the client's errors."""
        told = self._told.get(group)
        if told is None or self._clock() - told[0] >= ASK_SECONDS:
            told = self._told[group] = (self._clock(), await self._client.serves(group))
        return told[1]
