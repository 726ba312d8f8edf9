"""What of a body reaches the agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentservice_runtime.body import MAX_DEPTH, input_of, parse_body
from agentservice_runtime.errors import ServiceError


def read(content):
    return input_of(parse_body(content))


def status(content):
    with pytest.raises(ServiceError) as refused:
        read(content)
    return refused.value.problem.status


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"input": nan}', 400),
        (b'{"input": "\xff"}', 400),
        (b'{"input": "\\ud800"}', 400),
        (b'{"input": 1} x', 400),
        (b"[" * 10_000 + b"]" * 10_000, 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"input": 1, "stream": true}', 422),
    ],
)
def test_what_is_no_request_is_refused(content, expected):
    assert status(content) == expected


def test_depth_is_bounded():
    deepest = MAX_DEPTH
    assert read(b'{"input": ' + b"[" * deepest + b"]" * deepest + b"}")
    assert status(b'{"input": ' + b"[" * (deepest + 1) + b"]" * (deepest + 1) + b"}") == 400


def test_the_input_is_returned_as_it_is():
    assert read('{"input": {"a": [1, "é🦜", null]}}'.encode()) == {"a": [1, "é🦜", None]}


@given(st.binary())
def test_no_bytes_crash_it(content):
    try:
        read(content)
    except ServiceError as refused:
        assert refused.problem.status in (400, 422)
