"""Decides what a Kubernetes quantity is worth.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(
    r"\+?(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,2}))?",
    re.ASCII,
)
_FACTORS: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}  # fmt: skip


def parse_quantity(text: int | str) -> Decimal:
    """Return the exact value. Raises ValueError for what is no quantity, and for negative ones."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity: write for instance 250m, 2, 512Mi or 1Gi")
    value = Decimal(match["number"])
    if match["suffix"]:
        return value * _FACTORS[match["suffix"]]
    return value.scaleb(int(match["exponent"])) if match["exponent"] else value
