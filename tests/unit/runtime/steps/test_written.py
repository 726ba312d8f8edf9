"""What is written of a step, and what is not, because it would come back as something else."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field
from pydantic_ai import BinaryContent, ImageUrl, ModelRetry, ToolReturn
from pydantic_ai.exceptions import ToolFailed, ToolRetryError
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestContext, ModelRequestParameters
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from agentservice_runtime.ledger.interface import Bill
from agentservice_runtime.meter.account import Charge
from agentservice_runtime.steps.written import MAX_BYTES, Answered, Beyond, Called, Unreadable, asked

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


class Order(BaseModel):
    number: int = Field(serialization_alias="orderNumber")
    price: Decimal


@dataclasses.dataclass
class Place:
    town: str


def through(called: Called | None) -> Called:
    assert called is not None
    body = called.encode()
    assert body is not None
    return Called.decode(body)


def text_of(value: Any) -> str:
    """What a model reads of a tool's result."""
    return ToolReturnPart(tool_name="t", content=value, tool_call_id="c").model_response_str()


@pytest.mark.parametrize(
    "value",
    [
        "text",
        '{"looks": "like JSON"}',
        "",
        None,
        True,
        7,
        0.1,
        [1, "two", None],
        (1, 2),
        {"a": {"b": [1]}, 3: "x"},
        {"kind": "of blue"},
        Order(number=1, price=Decimal("9.90")),
        [Place(town="Bonn")],
        NOON,
        Decimal("1.50"),
        b"bytes",
        {"set"},
    ],
)
def test_a_result_comes_back_as_what_the_model_reads_the_same_of_and_live_runs_go_on_with_the_same(value: Any) -> None:
    called = Called.of_result(value)
    result = through(called).result()
    assert text_of(result) == text_of(value)
    assert called is not None
    assert called.result() == result


@pytest.mark.parametrize(
    "value",
    [
        BinaryContent(data=b"x", media_type="image/png"),
        ["a picture", BinaryContent(data=b"x", media_type="image/png")],
        {"at": ImageUrl(url="https://example.com/a.png")},
        object(),
        [lambda: 1],
        ToolReturn("ok", content=["see", BinaryContent(data=b"x", media_type="image/png")]),
        ToolReturn(BinaryContent(data=b"x", media_type="image/png")),
        ToolReturn("ok", metadata=object()),
    ],
)
def test_what_is_no_json_is_not_written(value: Any) -> None:
    assert Called.of_result(value) is None


def test_a_tool_return_comes_back_whole() -> None:
    result = through(
        Called.of_result(ToolReturn({"a": 1}, content="look", metadata={"m": [1]}, tools=["more"]))
    ).result()
    assert isinstance(result, ToolReturn)
    assert (result.return_value, result.content, result.metadata, result.tools) == (
        {"a": 1},
        "look",
        {"m": [1]},
        ["more"],
    )


def test_words_to_the_model_come_back_as_they_were_raised_and_other_errors_are_not_written() -> None:
    with pytest.raises(ModelRetry, match="name a town"):
        through(Called.of_error(ModelRetry("name a town"))).result()
    wrapped = ToolRetryError(ToolReturnPart(tool_name="t", content="?", tool_call_id="c", outcome="retried"))
    wrapped.__cause__ = ModelRetry("name a town")
    with pytest.raises(ModelRetry, match="name a town"):
        through(Called.of_error(wrapped)).result()
    with pytest.raises(ToolFailed, match="no such town"):
        through(Called.of_error(ToolFailed("no such town"))).result()
    assert Called.of_error(ToolRetryError(wrapped.tool_retry)) is None


def test_an_answer_comes_back_with_its_usage_its_bill_and_what_else_was_used() -> None:
    parts = [ThinkingPart("hm", signature="s"), TextPart("Aha"), ToolCallPart("t", {"x": 1}, tool_call_id="call_1")]
    response = ModelResponse(
        parts=parts,
        usage=RequestUsage(input_tokens=20, output_tokens=8, details={"reasoning_tokens": 3}),
        model_name="m",
        timestamp=NOON,
        provider_details={"at": NOON},
        finish_reason="tool_call",
    )
    answered = Answered(
        response=response,
        charges=(Charge(Bill("m", "p", 28, 5_000), True),),
        served_by="openai-chat:other",
        beyond=Beyond(requests=1, input_tokens=2, output_tokens=3),
    )
    body = answered.encode()
    assert body is not None
    found = Answered.decode(body)
    assert (found.response.parts, found.response.usage, found.response.timestamp) == (parts, response.usage, NOON)
    assert (found.charges, found.served_by, found.beyond) == (answered.charges, answered.served_by, answered.beyond)
    assert found.tool_calls == {"call_1"}
    assert found.encode() == body


def test_what_is_too_large_or_not_whole_is_not_written() -> None:
    assert Called.of_result("x" * MAX_BYTES).encode() is None  # pyright: ignore[reportOptionalMemberAccess]
    assert Answered(response=ModelResponse(parts=[TextPart("x" * MAX_BYTES)])).encode() is None
    assert Answered(response=ModelResponse(parts=[TextPart("x")], state="interrupted")).encode() is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"version": 2}', b'{"version": 1, "response": []}', b"[1]"])
def test_what_another_program_has_written_is_not_taken_for_a_step(body: bytes) -> None:
    for kind in (Answered, Called):
        with pytest.raises(Unreadable):
            kind.decode(body)


def request(*, instructions: str = "Be brief.", run_id: str = "r1", said: str = "Hello", result: Any = "sunny") -> Any:
    messages = [
        ModelRequest(parts=[UserPromptPart(said)], instructions=instructions, run_id=run_id),
        ModelResponse(parts=[ToolCallPart("t", {}, tool_call_id="c")], run_id=run_id, provider_details={"at": run_id}),
        ModelRequest(parts=[ToolReturnPart(tool_name="t", content=result, tool_call_id="c")], run_id=run_id),
    ]
    return ModelRequestContext(
        model=TestModel(), messages=messages, model_settings=None, model_request_parameters=ModelRequestParameters()
    )


def test_the_same_asked_by_another_attempt_is_the_same_and_anything_else_is_not() -> None:
    first = asked(request(), run_id="r1")
    assert asked(request(run_id="r2"), run_id="r2") == first
    changed = [request(instructions="Be long."), request(said="Hi"), request(result="rain")]
    assert len({first, *(asked(each, run_id="r1") for each in changed)}) == 4
    # an answer of a run before it is a part of what is asked
    assert asked(request(), run_id="r2") != first
