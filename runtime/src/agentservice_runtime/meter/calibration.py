"""Decides by how much a bound was too small before: what a provider billed beyond it raises the next ones, for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_MODELS: Final = 256


@dataclass(frozen=True, slots=True)
class Factors:
    """At least 1 each."""

    input: float = 1.0
    output: float = 1.0


class Calibration:
    """The largest ratios that were seen of each model. They only rise: an average would be wrong half of the time."""

    def __init__(self) -> None:
        self._factors: dict[str, Factors] = {}

    def factors(self, model_id: str) -> Factors:
        """Return by what to multiply the bounds of a model."""
        return self._factors.get(model_id, _NONE)

    def learn(self, model_id: str, *, input_ratio: float, output_ratio: float) -> None:
        """Take in what was billed in relation to its bound, which these factors had raised already."""
        if input_ratio <= 1 and output_ratio <= 1:
            return
        known = self.factors(model_id)
        if model_id in self._factors or len(self._factors) < _MAX_MODELS:
            self._factors[model_id] = Factors(
                input=known.input * max(1.0, input_ratio), output=known.output * max(1.0, output_ratio)
            )


_NONE: Final = Factors()
