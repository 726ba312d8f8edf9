"""Decides which pydantic-ai Agent `spec.agent` stands for: one declared in the manifest, or the user's own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_ai import Agent, ModelRetry, RunContext, Tool
from pydantic_ai.agent.spec import AgentSpec as DeclaredSpec
from pydantic_ai.exceptions import UserError
from pydantic_ai.toolsets import AbstractToolset

from agentservice_api import RuntimeConfig
from agentservice_api.spec import AgentSpec
from agentservice_api.spec.agent import Capability
from agentservice_runtime.imports import resolve
from agentservice_runtime.mcp import build_toolset
from agentservice_runtime.model import build_model, model_settings
from agentservice_runtime.rejected import ConfigurationRejected
from agentservice_runtime.secrets import SecretFiles

if TYPE_CHECKING:  # what it needs is imported where there is a schema
    from agentservice_runtime.schema import AgentSchema

_MAX_OUTPUT_ERRORS: Final = 5


@dataclass(frozen=True, kw_only=True)
class BuiltAgent:
    """An agent and what goes with each of its runs."""

    agent: Agent[Any, Any]
    model: Any
    """The model that replaces the agent's own, or None."""
    model_name: str
    settings: dict[str, Any]
    toolsets: tuple[AbstractToolset[Any], ...]
    """Toolsets passed with each run: those of the manifest beside an entrypoint."""
    run_spec: dict[str, Any] | None
    """Capabilities passed with each run, likewise."""
    output_schema: dict[str, Any]
    """JSON Schema of what a run answers."""
    is_text: bool
    """Whether a run answers plain text."""


def build_agent(config: RuntimeConfig, *, secrets: SecretFiles) -> BuiltAgent:
    """Build the agent of ``config``. Raises ConfigurationRejected."""
    spec = config.agent
    model = build_model(config.model, secrets=secrets)
    mcp = tuple(
        build_toolset(server, index=i, secrets=secrets, timeout_seconds=spec.limits.tool_timeout_seconds)
        for i, server in enumerate(spec.mcp_servers)
    )
    if spec.entrypoint is not None:
        agent = _own(spec.entrypoint)
        toolsets, run_spec = mcp, _run_spec(spec)
        if model is None and agent.model is None:
            raise ConfigurationRejected(
                "spec.model.name", f"is empty and {spec.entrypoint} has no model: name one of them"
            )
    else:
        agent = _declared(config.name, spec, toolsets=mcp)
        toolsets, run_spec = (), None
        if model is None:
            raise ConfigurationRejected("spec.model.name", "is empty: name a model, for instance test")
    schema = spec.output_schema if spec.output_schema is not None else _schema_of(agent)
    return BuiltAgent(
        agent=agent,
        model=model,
        model_name=config.model.name or _name_of(agent.model),
        settings=model_settings(config.model),
        toolsets=toolsets,
        run_spec=run_spec,
        output_schema=schema,
        is_text=spec.output_schema is None and schema.get("type") == "string",
    )


def _own(path: str) -> Agent[Any, Any]:
    field = "spec.agent.entrypoint"
    found = resolve(path, field=field)
    if not isinstance(found, Agent) and callable(found):
        if inspect.iscoroutinefunction(found):
            raise ConfigurationRejected(field, f"{path} is a coroutine function: make the factory a plain function")
        try:
            found = found()
        except Exception as error:
            first = (str(error).splitlines() or [""])[0][:300]
            raise ConfigurationRejected(
                field, f"calling {path}() failed with {type(error).__name__}: {first}"
            ) from error
    if not isinstance(found, Agent):
        raise ConfigurationRejected(
            field,
            f"{path} is a {type(found).__name__}: point at a pydantic_ai.Agent, or at a function without arguments that returns one",
        )
    return cast("Agent[Any, Any]", found)


def _declared(name: str, spec: AgentSpec, *, toolsets: tuple[AbstractToolset[Any], ...]) -> Agent[Any, Any]:
    tools, own_toolsets = _tools(spec)
    declared: dict[str, Any] = {
        "name": name,
        "retries": {"tools": spec.retries.tools, "output": spec.retries.output},
        "capabilities": [_capability(c, index=i) for i, c in enumerate(spec.capabilities)],
    }
    output: AgentSchema | None = None
    if spec.output_schema is not None:
        from agentservice_runtime.schema import AgentSchema

        output = AgentSchema(spec.output_schema)
        declared["output_schema"] = spec.output_schema
    _refuse_unknown(declared)
    try:
        # the instructions are an argument and no part of the spec, where `{{x}}` would be a Handlebars template
        agent: Agent[Any, Any] = Agent.from_spec(
            declared,
            instructions=spec.instructions,
            deps_type=object,
            tools=tools,
            toolsets=[*own_toolsets, *toolsets],
            defer_model_check=True,
        )
    except (UserError, ValueError, TypeError) as error:
        raise ConfigurationRejected("spec.agent", _line(error)) from error
    if output is not None:
        _validate_output(agent, output)
    return agent


def _refuse_unknown(declared: dict[str, Any]) -> None:
    # AgentSpec ignores keys that it does not know; a key that a newer pydantic-ai renames must not vanish silently
    unknown = sorted(declared.keys() - DeclaredSpec.model_fields.keys())
    if unknown:
        raise ConfigurationRejected(
            "spec.agent", f"this pydantic-ai does not know {', '.join(unknown)}: use a matching runtime image"
        )


def _tools(spec: AgentSpec) -> tuple[list[Any], list[AbstractToolset[Any]]]:
    tools: list[Any] = []
    toolsets: list[AbstractToolset[Any]] = []
    for index, path in enumerate(spec.tools):
        field = f"spec.agent.tools[{index}]"
        found = resolve(path, field=field)
        if isinstance(found, AbstractToolset):
            toolsets.append(cast("AbstractToolset[Any]", found))
        elif isinstance(found, Tool):
            tools.append(found)
        elif inspect.isroutine(found):
            try:
                tools.append(Tool(cast("Any", found)))
            except Exception as error:
                raise ConfigurationRejected(field, f"{path} cannot be a tool: {_line(error)}") from error
        else:
            raise ConfigurationRejected(
                field, f"{path} is a {type(found).__name__}: point at a function, a pydantic_ai.Tool or a toolset"
            )
    return tools, toolsets


def _capability(capability: Capability, *, index: int) -> Any:
    field = f"spec.agent.capabilities[{index}]"
    settings = dict(capability.settings or {})
    item = {str(capability.name): settings} if settings else str(capability.name)
    try:
        Agent.from_spec({"capabilities": [item]}, deps_type=object, defer_model_check=True)
    except Exception as error:
        raise ConfigurationRejected(f"{field}.settings", _line(error)) from error
    return item


def _run_spec(spec: AgentSpec) -> dict[str, Any] | None:
    """Return the spec that is added to each run of an agent that is not ours to change."""
    if not spec.capabilities:
        return None
    return {"capabilities": [_capability(c, index=i) for i, c in enumerate(spec.capabilities)]}


def _validate_output(agent: Agent[Any, Any], schema: AgentSchema) -> None:
    async def fits(ctx: RunContext[Any], output: Any) -> Any:
        if ctx.partial_output:
            return output
        errors = schema.errors(output, root="output")
        if errors:
            told = "; ".join(f"{e.path} {e.message}" for e in errors[:_MAX_OUTPUT_ERRORS])
            raise ModelRetry(f"The answer does not fit its JSON Schema: {told}")
        return output

    agent.output_validator(fits)


def _schema_of(agent: Agent[Any, Any]) -> dict[str, Any]:
    try:
        return agent.output_json_schema()
    except Exception:  # an output type that has no JSON Schema is still served, as whatever JSON it makes
        return {}


def _name_of(model: Any) -> str:
    return model if isinstance(model, str) else str(getattr(model, "model_id", None) or "unknown")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]
