"""Which requests are equal to the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai import Agent, BinaryContent, RunContext, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.models.test import TestModel

from agentservice_runtime.cache.key import Scope, digest

SCOPE = Scope(revision="r1", caller="web/ada")


class Catch(AbstractCapability[Any]):
    """Keeps the first request of a run."""

    request: ModelRequestContext

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        if ctx.run_step == 1:
            self.request = request_context
        return request_context


def look(x: int) -> int:
    """Look."""
    return x


async def request(
    message: Any = "hello",
    *,
    instructions: str = "Be kind.",
    history: list[ModelMessage] | None = None,
    settings: Any = None,
    model: TestModel | None = None,
    tools: tuple[Any, ...] = (look,),
    output: Any = str,
) -> ModelRequestContext:
    catch = Catch()
    agent: Agent[None, Any] = Agent(model or TestModel(), instructions=instructions, tools=tools, output_type=output)
    await agent.run(message, message_history=history, model_settings=settings, capabilities=[catch])
    return catch.request


async def test_the_same_question_of_another_run_is_equal() -> None:
    first, second = await request(), await request()
    assert first.messages != second.messages  # their times and run ids differ
    assert digest(SCOPE, first) == digest(SCOPE, second)


def history(said: str) -> list[ModelMessage]:
    return [ModelRequest(parts=[UserPromptPart(said)]), ModelResponse(parts=[TextPart("yes")])]


CHANGES: dict[str, dict[str, Any]] = {
    "message": {"message": "hello "},
    "attachment": {"message": ["hello", BinaryContent(b"1", media_type="image/png")]},
    "other attachment": {"message": ["hello", BinaryContent(b"2", media_type="image/png")]},
    "instructions": {"instructions": "Be brief."},
    "history": {"history": history("a")},
    "other history": {"history": history("b")},
    "setting": {"settings": {"temperature": 0.5}},
    "tool choice": {"settings": {"tool_choice": "none"}},
    "model": {"model": TestModel(model_name="other")},
    "model's own setting": {"model": TestModel(settings={"temperature": 0.5})},
    "no tool": {"tools": ()},
    "tool's description": {"tools": (Tool(look, description="Look well."),)},
    "tool's name": {"tools": (Tool(look, name="watch"),)},
    "output": {"output": dict[str, int]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_whatever_the_model_is_sent_is_part_of_the_key(change: dict[str, Any]) -> None:
    base, changed = digest(SCOPE, await request()), digest(SCOPE, await request(**change))
    assert changed != base
    assert digest(SCOPE, await request(**change)) == changed


async def test_no_two_changes_make_the_same_key() -> None:
    assert len({digest(SCOPE, await request(**change)) for change in CHANGES.values()}) == len(CHANGES)


async def test_revision_and_caller_are_part_of_it_and_cannot_be_taken_for_each_other() -> None:
    found = await request()
    scopes = [SCOPE, replace(SCOPE, revision="r2"), replace(SCOPE, caller="web/bob"), replace(SCOPE, caller="")]
    scopes += [Scope(revision="r1w", caller="eb/ada"), Scope(revision="web/ada", caller="r1")]
    assert len({digest(scope, found) for scope in scopes}) == len(scopes)


async def test_sets_make_the_same_key_in_whatever_order_they_come() -> None:
    found = await request()
    names = [f"tool-{n}" for n in range(50)]
    keys = set[str]()
    for order in (names, names[::-1]):
        parameters = replace(found.model_request_parameters, deferred_capability_ids=set(order))
        keys.add(digest(SCOPE, replace(found, model_request_parameters=parameters)))
    assert len(keys) == 1


async def test_the_key_tells_nothing() -> None:
    key = digest(SCOPE, await request("canary"))
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
