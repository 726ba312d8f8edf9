"""Quantities are worth what Kubernetes says that they are."""

from decimal import Decimal

import pytest

from agentservice_api.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (2, "2"),
        ("0", "0"),
        ("250m", "0.25"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("1.", "1"),
        ("+1", "1"),
        ("512Mi", str(512 * 2**20)),
        ("1Gi", str(2**30)),
        ("1G", "1000000000"),
        ("1k", "1000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1000000000000000000"),
        ("100n", "0.0000001"),
        ("1u", "0.000001"),
        ("2Ei", str(2 * 2**60)),
    ],
)
def test_a_quantity_has_its_value(text: int | str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "512MB", "1K", "one", "1e", "1Gii", "٣", "1.2.3", "."])
def test_what_is_no_quantity_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)
