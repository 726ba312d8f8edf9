"""How the bench of the operator compares programs on a machine that is not always as fast."""

import pytest
from tests.bench.operator.measure import LIMIT, ORDERS, OURS, PLAIN, _compared
from tests.bench.operator.scene import Creation


def creation(rate: float) -> Creation:
    return Creation(
        writes=[], seconds=1, children_per_second=rate, cpu_ms=1000 / rate, apiserver_cpu_ms=0, peak_megabytes=0
    )


def test_a_ratio_is_of_two_programs_of_one_round_however_fast_the_machine_was_then():
    rounds = [
        {LIMIT: creation(100 * speed), PLAIN: creation(80 * speed), OURS: creation(120 * speed)}
        for speed in (1, 3, 0.5)
    ]
    found = _compared(rounds)
    assert found["rate / limit"] == pytest.approx(1.2)
    assert found["rate / baseline"] == pytest.approx(1.5)
    assert found["all CPU: limit / ours"] == pytest.approx(1.2)
    assert found["CPU ms per resource / baseline"] == pytest.approx(80 / 120)
    assert found["children per second"] == 120


def test_each_program_has_each_place_in_a_round_once_and_ours_the_last():
    assert all(sorted(places) == sorted((LIMIT, PLAIN, OURS)) for places in zip(*ORDERS, strict=True))
    assert ORDERS[-1][-1] is OURS, "what follows its creation is measured of that one"
