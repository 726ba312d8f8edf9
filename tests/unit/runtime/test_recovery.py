"""What follows a model request that failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelAuthenticationError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelUnavailableError,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agentservice_api.spec import Retry
from agentservice_runtime.meter.account import Account
from agentservice_runtime.meter.scope import Scope
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.recovery import Candidate, RunRecovery

UNAVAILABLE = ModelUnavailableError("m", "failed")


def limited(*, retry_after: float | None = None) -> ModelRateLimitError:
    error = ModelRateLimitError("m", "failed")
    error.retry_after = retry_after
    return error


@dataclass
class Script:
    """A model that fails and answers as its script says, and then answers for ever."""

    steps: list[Exception | ModelResponse]
    name: str = "first"
    asked: int = 0
    settings: list[Any] = field(default_factory=list[Any])

    def _next(self, info: AgentInfo) -> ModelResponse:
        self.asked += 1
        self.settings.append(info.model_settings)
        step = self.steps.pop(0) if self.steps else ModelResponse(parts=[TextPart(f"from {self.name}")])
        if isinstance(step, Exception):
            raise step
        return step

    @property
    def model(self) -> FunctionModel:
        async def answer(_: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            return self._next(info)

        async def stream(_: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
            for part in self._next(info).parts:
                assert isinstance(part, TextPart)
                yield part.content

        return FunctionModel(answer, stream_function=stream, model_name=self.name)


@dataclass
class Pauses:
    """A clock that only pauses move."""

    now: float = 100.0
    made: list[float] = field(default_factory=list[float])

    async def sleep(self, seconds: float) -> None:
        self.made.append(seconds)
        self.now += seconds


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def recovery(pauses: Pauses) -> Callable[..., RunRecovery]:
    def make(*candidates: Script, seconds: float = 300, chance: float = 0.0, **retry: int) -> RunRecovery:
        return RunRecovery(
            retry=Retry(**retry),
            candidates=tuple(Candidate(name=f"test:{c.name}", model=c.model) for c in candidates),
            name="test:first",
            deadline=pauses.now + seconds,
            metrics=Metrics(agent_name="a"),
            clock=lambda: pauses.now,
            sleep=pauses.sleep,
            chance=lambda: chance,
        )

    return make


async def ask(first: Script, recovery: RunRecovery, *, account: Account | None = None) -> str:
    agent = Agent(first.model)
    agent.tool_plain(look)
    with Scope(None, account or Account()):
        return (await agent.run("x", capabilities=[recovery])).output


def look() -> str:
    return "found"


def counted(recovery: RunRecovery, series: str) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["model"], sample.labels["category"]): sample.value
        for family in recovery.metrics.registry.collect()
        for sample in family.samples
        if sample.name == series
    }


async def test_a_failure_that_may_pass_is_followed_by_another_attempt_after_a_pause_that_doubles(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    first, made = Script([UNAVAILABLE, UNAVAILABLE, limited()]), recovery(max_attempts=4, backoff_seconds=2)
    assert await ask(first, made) == "from first"
    assert pauses.made == [2, 4, 8]
    assert counted(made, "agentservice_model_retries_total") == {
        ("test:first", "external_service"): 2,
        ("test:first", "rate_limit"): 1,
    }


async def test_after_the_last_attempt_the_error_is_the_runs(recovery: Callable[..., RunRecovery]) -> None:
    first = Script([UNAVAILABLE] * 3)
    with pytest.raises(ModelUnavailableError):
        await ask(first, recovery(max_attempts=3))
    assert first.asked == 3


async def test_a_pause_is_never_longer_than_the_longest_and_a_tenth_by_chance(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    await ask(Script([UNAVAILABLE] * 4), recovery(max_attempts=5, max_backoff_seconds=3, chance=0.5))
    assert pauses.made == pytest.approx([1.05, 2.1, 3.15, 3.15])


async def test_a_provider_that_names_a_time_is_asked_again_no_sooner(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    await ask(Script([limited(retry_after=7)]), recovery())
    assert pauses.made == [7]


async def test_a_provider_that_asks_for_more_than_the_longest_pause_is_not_asked_again(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    first, second = Script([limited(retry_after=61)]), Script([], name="second")
    assert await ask(first, recovery(second)) == "from second"
    assert (first.asked, pauses.made) == (1, [])


async def test_a_pause_that_would_outlast_the_run_is_not_made(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    first = Script([UNAVAILABLE] * 9)
    with pytest.raises(ModelUnavailableError):
        await ask(first, recovery(max_attempts=9, seconds=8))
    assert pauses.made == [1, 2, 4]


@pytest.mark.parametrize(
    "error",
    [
        ModelAuthenticationError("m", "failed"),
        ModelNotFoundError("m", "failed"),
        ModelRequestRejectedError("m", "failed"),
        KeyError("of the user's code"),
    ],
)
async def test_a_key_or_a_request_that_is_refused_is_neither_repeated_nor_sent_elsewhere(
    recovery: Callable[..., RunRecovery], error: Exception
) -> None:
    first, second = Script([error]), Script([], name="second")
    with pytest.raises(type(error)):
        await ask(first, recovery(second))
    assert (first.asked, second.asked) == (1, 0)


async def test_a_quota_that_is_used_up_is_not_asked_for_twice(
    recovery: Callable[..., RunRecovery], pauses: Pauses
) -> None:
    first, second = Script([ModelQuotaExceededError("m", "failed")]), Script([], name="second")
    assert await ask(first, recovery(second)) == "from second"
    assert pauses.made == []


async def test_each_model_has_its_own_attempts_and_the_one_that_answered_stays_for_the_run(
    recovery: Callable[..., RunRecovery],
) -> None:
    call = ModelResponse(parts=[ToolCallPart("look", {})])
    first, second = Script([UNAVAILABLE] * 9), Script([UNAVAILABLE, call], name="second")
    third, account = Script([], name="third"), Account()
    made = recovery(second, third, max_attempts=2)
    assert await ask(first, made, account=account) == "from second"
    assert (first.asked, second.asked, third.asked) == (2, 3, 0)
    assert account.served_by == "test:second"
    assert counted(made, "agentservice_model_fallbacks_total") == {("test:second", "external_service"): 1}


async def test_when_no_model_answers_the_last_ones_error_is_the_runs(recovery: Callable[..., RunRecovery]) -> None:
    first, second = Script([UNAVAILABLE] * 9), Script([ModelAPIError("m", "no connection")] * 9, name="second")
    with pytest.raises(ModelAPIError, match="no connection"):
        await ask(first, recovery(second, max_attempts=2))
    assert (first.asked, second.asked) == (2, 2)


async def test_attempts_are_counted_anew_at_each_step_of_a_run(recovery: Callable[..., RunRecovery]) -> None:
    call = ModelResponse(parts=[ToolCallPart("look", {})])
    first = Script([UNAVAILABLE, UNAVAILABLE, call, UNAVAILABLE, UNAVAILABLE])
    assert await ask(first, recovery(max_attempts=3)) == "from first"


async def test_a_stream_is_repeated_before_it_has_begun(recovery: Callable[..., RunRecovery]) -> None:
    first, second = Script([UNAVAILABLE] * 2), Script([], name="second")
    agent, made = Agent(first.model), recovery(second, max_attempts=2)
    with Scope(None, Account()):
        async with agent.run_stream("x", capabilities=[made]) as result:
            assert await result.get_output() == "from second"
