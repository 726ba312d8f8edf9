"""Decides how a request's input becomes one run of the agent, and what the run's answer looks like."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import pydantic_core
from pydantic_ai import AgentRunResult, RunContext, RunUsage
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.messages import ModelMessage

from agentservice_api import RuntimeConfig
from agentservice_runtime.agent import BuiltAgent
from agentservice_runtime.course import Course, RecoveringCourse
from agentservice_runtime.errors import FieldError, ServiceError, unprocessable
from agentservice_runtime.guard import OutputCap, guard, usage_limits
from agentservice_runtime.memory.turns import turn_of
from agentservice_runtime.meter.budget import Budget
from agentservice_runtime.meter.scope import Scope
from agentservice_runtime.metrics import Metrics
from agentservice_runtime.observed import Observation
from agentservice_runtime.recovery import Recovery
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.runlog import RunRecord
from agentservice_runtime.template import FIELD as TEMPLATE_FIELD
from agentservice_runtime.template import PromptTemplate, TemplateError
from agentservice_runtime.testmodel import NAME as TEST

if TYPE_CHECKING:  # what a schema needs, and the Redis client, are imported where there is one
    from agentservice_runtime.cache.cache import Cache
    from agentservice_runtime.schema import AgentSchema

_MAX_ATTRIBUTE: Final = 256
"""Characters."""


Hear = Callable[[Any], Awaitable[None]]
"""Is told of pydantic-ai's events of a run, and where a caller reads along, of its Answer after them."""


def invalid(errors: tuple[FieldError, ...]) -> ServiceError:
    """Return the 422 that names the fields of ``errors``."""
    return unprocessable("; ".join(f"{e.path} {e.message}" for e in errors), errors=errors)


class InputReader:
    """Turns the member `input` of a request into the message to the model."""

    def __init__(self, config: RuntimeConfig) -> None:
        """Parse the template. Raises ConfigurationRejected."""
        declared = config.agent.input
        self._attributes = config.observability.input_attributes
        self._schema: AgentSchema | None = None
        self._template: PromptTemplate | None = None
        if declared is None:
            return
        from agentservice_runtime.schema import AgentSchema

        self._schema = AgentSchema(declared.schema_)
        if declared.prompt_template is not None:
            try:
                self._template = PromptTemplate.parse(
                    declared.prompt_template, properties=frozenset(declared.schema_.get("properties") or {})
                )
            except TemplateError as error:
                raise ConfigurationRejected(TEMPLATE_FIELD, str(error)) from None

    @property
    def is_typed(self) -> bool:
        """Whether the input is a JSON value and not a text."""
        return self._schema is not None

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the member `input`."""
        if self._schema is None:
            return {"type": "string", "minLength": 1, "description": "The message to the agent."}
        return self._schema.schema

    def attributes(self, value: Any) -> dict[str, str | int | float | bool]:
        """Return what the run's span carries of an input that fits."""
        if self._schema is None or not self._attributes:
            return {}
        completed = self._schema.with_defaults(value)
        return {
            f"agentservice.input.{name}": found[:_MAX_ATTRIBUTE] if isinstance(found, str) else found
            for name in self._attributes
            if isinstance(found := completed.get(name), str | int | float | bool)
        }

    def prompt(self, value: Any) -> str:
        """Return the message to the model. Raises ServiceError (422) that names each field that does not fit."""
        if self._schema is None:
            if not isinstance(value, str) or not value.strip():
                raise invalid((FieldError(path="input", message="must be a text that is not empty"),))
            return value
        completed = self._schema.with_defaults(value)
        errors = self._schema.errors(completed, root="input")
        if errors:
            raise invalid(errors)
        if self._template is None:
            return orjson.dumps(completed).decode()
        return self._template.render(completed)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a run is asked."""

    prompt: str
    history: tuple[ModelMessage, ...] = ()
    """What was said before."""
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict[str, str | int | float | bool])
    """What its span carries of the input."""
    max_output_tokens: int | None = None
    """The caller's own cap of the output of each model request. It lowers the agent's and never raises it."""
    conversation_id: str | None = None
    """The conversation that it goes on with, of those that are remembered here."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a run answers, as `/v1/run` and the event `result` of `/v1/stream` send it."""

    run_id: str
    output: Any
    usage: RunUsage
    cost_usd: str | None
    model: str
    is_cut_off: bool = False
    """Whether the model stopped at its cap of output tokens."""
    cache: str | None = None
    """hit, miss or bypass; None where there is no cache."""
    conversation_id: str | None = None
    remembered: bool | None = None
    """Whether the next turn of the conversation will know of this one; None for a run that stands alone."""

    def document(self) -> dict[str, Any]:
        """Return the JSON members."""
        document = {
            "run_id": self.run_id,
            "output": self.output,
            "usage": {
                "input_tokens": self.usage.input_tokens,
                "output_tokens": self.usage.output_tokens,
                "total_tokens": self.usage.total_tokens,
                "requests": self.usage.requests,
            },
            "cost_usd": self.cost_usd,
            "model": self.model,
        }
        if self.cache is not None:
            document["cache"] = self.cache
        if self.conversation_id is not None:
            document |= {"conversation_id": self.conversation_id, "remembered": self.remembered}
        return document


class Runner:
    """Runs the agent. What every run is given stands here, whichever endpoint asks."""

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        built: BuiltAgent,
        deps: Any,
        threads: ThreadPoolExecutor,
        metrics: Metrics,
        budget: Budget | None = None,
        recovery: Recovery | None = None,
        cache: Cache | None = None,
    ) -> None:
        """``threads`` run the user's plain functions: a run that is stopped does not wait for them there."""
        self._built = built
        self._budget = budget
        self._recovery = recovery
        self._cache = cache
        self._meter = None if budget is None else budget.meter
        self._deps = deps
        self._threads = threads
        self._limits = config.agent.limits
        self._guard = guard(self._limits)
        self._observation = Observation(metrics=metrics, named=self._named_models())

    @property
    def is_text(self) -> bool:
        """Whether a run answers plain text."""
        return self._built.is_text

    @property
    def model_name(self) -> str:
        """The model's name as the specification, or else the agent, has it."""
        return self._built.model_name

    async def run(self, question: Question, record: RunRecord, *, hear: Hear | None = None) -> AgentRunResult[Any]:
        """Run to the end. ``record`` counts up, so it tells what a run that fails has used; ``hear`` is told of pydantic-ai's events."""

        agent = self._built.agent
        with Scope(self._meter, record.account), agent.using_thread_executor(self._threads):
            arguments = self._arguments(question, record)
            handler = None if hear is None else partial(_heard, hear)
            return await agent.run(question.prompt, event_stream_handler=handler, **arguments)

    async def concluded(self, result: AgentRunResult[Any], question: Question, record: RunRecord) -> Answer:
        """Remember the turn, where the run is one of a conversation, and return the answer."""
        answer = self._answer(result, record)
        if record.turn is None:
            return answer
        turn = turn_of(run_id=record.run_id, said=question.prompt, output=answer.output, messages=result.new_messages())
        is_kept = await record.turn.keep(turn)
        return replace(answer, conversation_id=record.turn.conversation_id, remembered=is_kept)

    def _answer(self, result: AgentRunResult[Any], record: RunRecord) -> Answer:
        return Answer(
            run_id=record.run_id,
            output=pydantic_core.to_jsonable_python(result.output, fallback=str),
            usage=record.usage,
            cost_usd=self.cost(record),
            model=record.account.served_by or self.model_name,
            is_cut_off=result.response.finish_reason == "length",
            cache=told_of(record),
        )

    def cost(self, record: RunRecord) -> str | None:
        """Return the cost in USD as a decimal string, None when a price is not known.

        With a budget it is what was settled, nested agents included; without one what pydantic-ai counts.
        """
        if self._meter is not None:
            return record.account.cost_usd
        if self.model_name == TEST or (record.cache is not None and record.cache.is_hit and not record.usage.requests):
            return "0"
        cost = record.usage.cost
        return None if cost is None else decimal_string(cost)

    def _named_models(self) -> list[tuple[Any, str]]:
        found = [] if self._built.model is None else [(self._built.model, self.model_name)]
        if self._recovery is not None:
            found += [(candidate.model, candidate.name) for candidate in self._recovery.candidates]
        if self._budget is not None and self._budget.degrade is not None:
            found.append((self._budget.degrade.model, self._budget.degrade.name))
        return found

    def _arguments(self, question: Question, record: RunRecord) -> dict[str, Any]:
        built = self._built
        cap = question.max_output_tokens
        seconds = float(self._limits.run_timeout_seconds)
        capabilities: list[Any] = [self._course(record, seconds=seconds, cap=cap)]
        if record.steps is not None:
            capabilities.append(record.steps)
        history = [*(record.turn.history if record.turn is not None else ()), *question.history]
        if history:
            # what a client sends holds no system prompt of an agent that has one
            capabilities.append(ReinjectSystemPrompt())
        return {
            "run_id": record.run_id,
            "message_history": history or None,
            "conversation_id": question.conversation_id,
            "usage": record.usage,
            "cancellation_token": record.cancellation,
            "deps": self._deps,
            "model": built.model,
            "model_settings": built.settings,
            "usage_limits": usage_limits(self._limits),
            "timeout": seconds,
            "toolsets": built.toolsets or None,
            "capabilities": capabilities,
            "spec": built.run_spec,
            "infer_name": False,
        }

    def _course(self, record: RunRecord, *, seconds: float, cap: int | None) -> Course:
        recovery = None if self._recovery is None else self._recovery.for_run(seconds=seconds, max_output_tokens=cap)
        parts: dict[str, Any] = {
            "observation": self._observation,
            "guard": self._guard,
            "recovery": recovery,
            "degrade": None if self._budget is None else self._budget.degrade,
            "cap": None if cap is None else OutputCap(max_tokens=cap),
            "cache": None if self._cache is None else self._cache.for_run(record, seconds=seconds),
        }
        return Course(**parts) if recovery is None else RecoveringCourse(**parts)


async def _heard(hear: Hear, _: RunContext[Any], events: AsyncIterable[Any]) -> None:
    async for event in events:
        await hear(event)


def told_of(record: RunRecord) -> str | None:
    """Return what callers are told of the cache: hit, miss or bypass; None where there is none, or nothing to tell yet."""
    outcome = None if record.cache is None else record.cache.outcome
    return None if outcome is None else outcome.told


def decimal_string(value: Decimal) -> str:
    """Return ``value`` without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
