"""Decides whether and when a failed request is sent again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agentservice_operator.kube.errors import KubeError, ServerError, TooManyRequests, TransportError


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """`attempts` counts the first one. Delays in seconds. A `Retry-After` above `patience` is left to the work queue."""

    attempts: int = 4
    base: float = 0.2
    ceiling: float = 5.0
    patience: float = 15.0

    def delay(self, error: KubeError, *, attempt: int, idempotent: bool, random: Callable[[], float]) -> float | None:
        """Seconds to wait before attempt number `attempt + 1`, or None: raise the error.

        A 429 is retried for every verb: the server says that it did not carry the request out. A lost answer and a 5xx
        only where sending twice is harmless. `random` gives [0, 1): full jitter, so that workers do not return in step.
        """
        if attempt >= self.attempts:
            return None
        if isinstance(error, TooManyRequests):
            asked = error.retry_after if error.retry_after is not None else 1.0
            return None if asked > self.patience else asked + random() * self.base
        if isinstance(error, TransportError) or (isinstance(error, ServerError) and error.status != 501):
            if not idempotent:
                return None
            asked = (error.retry_after or 0.0) if isinstance(error, ServerError) else 0.0
            return (
                None
                if asked > self.patience
                else asked + backoff(attempt - 1, base=self.base, ceiling=self.ceiling, random=random)
            )
        return None


def backoff(failures: int, *, base: float, ceiling: float, random: Callable[[], float]) -> float:
    """Seconds after `failures` (>= 0) earlier failures: exponential up to `ceiling`, of which 50 to 100 % by chance.

    Never below half, so that a failing peer is not hammered by unlucky draws.
    """
    return min(ceiling, base * 2.0 ** min(failures, 32)) * (0.5 + random() / 2)
