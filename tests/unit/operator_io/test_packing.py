"""Objects in little memory: every text comes back as it was, and those of a kind take a tenth."""

from __future__ import annotations

import random

import orjson
import pytest

from agentservice_operator.kube.packing import Packing


def unlike(number: int) -> bytes:
    return random.Random(number).randbytes(2000).hex().encode()


def deployment(number: int) -> bytes:
    environment = [{"name": f"VARIABLE_{index}", "value": unlike(index)[:40].decode()} for index in range(40)]
    named = {"name": f"agent-{number}", "namespace": "team", "uid": f"{random.Random(number).getrandbits(128):032x}"}
    return orjson.dumps({"kind": "Deployment", "metadata": named, "spec": {"env": environment}})


def test_texts_of_a_kind_take_less_than_a_tenth_of_their_size():
    packing, texts = Packing(), [deployment(number) for number in range(50)]
    packed = [packing.pack(text) for text in texts]
    assert sum(map(len, packed[1:])) < sum(map(len, texts[1:])) / 10
    assert [packing.unpack(each) for each in packed] == texts


@pytest.mark.parametrize("first", [b"", b"{}", unlike(-1)], ids=["empty", "small", "unlike"])
def test_an_odd_first_one_does_not_spoil_the_others(first: bytes):
    packing = Packing()
    odd = packing.pack(first)
    packed = [packing.pack(deployment(number)) for number in range(9)]
    assert len(packed[-1]) < len(deployment(8)) / 10
    assert packing.unpack(odd) == first


def test_many_that_resemble_nothing_come_back_too_and_do_not_double_what_is_kept():
    packing, texts = Packing(), [unlike(number) for number in range(40)]
    packed = [packing.pack(text) for text in texts]
    assert [packing.unpack(each) for each in packed] == texts
    assert [each[0] for each in packed] == [*range(1, 9), *[8] * 32]
    assert len(packing.pack(deployment(1))) < len(deployment(1)) / 2


def test_a_text_beyond_the_window_comes_back():
    packing = Packing()
    large = b"".join(deployment(number) for number in range(200))
    assert packing.unpack(packing.pack(large)) == large
