"""Decides what `spec.agent` may say: what the agent does. Every change here is a new revision."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, model_validator

from agentservice_api.schema import Explained, ListType, Model, PreserveUnknownFields, Rule, Rules
from agentservice_api.spec.references import ConfigMapKeySelector, HeaderName, ListItemName, OpenObject, SecretSource

ImportPath = Annotated[
    str,
    StringConstraints(
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
    ),
    Explained("write module:attribute of your Python package, for instance acme.support:agent"),
]
"""``module:attribute`` of the user's Python package."""
"""The name of an HTTP header (a token of RFC 9110)."""
_TYPE = ("type", "Must be object.")
ObjectSchema = Annotated[
    dict[str, Any],
    PreserveUnknownFields(strings=(_TYPE,)),
    Rules(
        (
            Rule(
                rule="has(self.type) && self.type == 'object'",
                message="the JSON Schema must say type: object; put what you have under a property",
                field_path=".type",
            ),
        )
    ),
]
"""A JSON Schema of an object."""
Instructions = Annotated[str, StringConstraints(min_length=1, max_length=131072)]
Prompt = Annotated[str, StringConstraints(min_length=1, max_length=65536)]


class InstructionsSource(Model):
    """Instructions that stand in a ConfigMap of this namespace; a change of that key is a new revision."""

    config_map_key_ref: ConfigMapKeySelector = Field(description="The ConfigMap's key that holds the instructions.")


class InputSpec(Model):
    """Typed requests: validated before any model call, 422 on mismatch."""

    schema_: ObjectSchema = Field(
        alias="schema",
        description="JSON Schema (2020-12) of the request's `input`, of type object. Defaults of properties are filled in.",
    )
    prompt_template: Prompt | None = Field(
        default=None,
        description="The message to the model: `{name}` of a declared property only, `{{` and `}}` are braces, objects and lists "
        "are written as JSON. Default: the whole input as JSON.",
    )


class HeaderValue(Model):
    """A header of the requests to an MCP server, from a Secret."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!self.name.matches('(?i)^(host|connection|content-length|content-type|transfer-encoding|te|upgrade|accept|"
            "mcp-session-id|mcp-protocol-version)$')",
            message="this header belongs to HTTP or to the MCP client: remove it",
            field_path=".name",
        ),
    )

    name: HeaderName = Field(description="Name of the header, for instance Authorization.")
    value_from: SecretSource = Field(description="The Secret's key that holds the whole value of the header.")


class McpServer(Model):
    """An MCP server whose tools the agent may call (streamable HTTP)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!self.url.matches('^https?://[^/]*@')",
            message="url holds a user or password, which everyone who may read this object would see: use headers from a Secret",
            field_path=".url",
        ),
    )

    name: ListItemName = Field(description="Name of the server in logs and in the names of tools.")
    url: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=r"^https?://[^\s]+$"),
        Explained("url begins with http:// or https:// and holds no spaces"),
    ] = Field(description="Address of the server's endpoint, for instance http://tickets.team-a.svc/mcp.")
    allowed_tools: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...],
        ListType("set"),
        Field(max_length=128),
    ] = Field(default=(), description="Tools that the agent may see. Default: all of the server's.")
    headers: Annotated[tuple[HeaderValue, ...], ListType("map", ("name",)), Field(max_length=16)] = Field(
        default=(), description="Headers of every request to the server, from Secrets. Default: none."
    )


class CapabilityName(StrEnum):
    """Capabilities of pydantic-ai that a manifest may switch on: none of them reaches the pod's files or processes."""

    THINKING = "Thinking"
    INCLUDE_TOOL_RETURN_SCHEMAS = "IncludeToolReturnSchemas"
    TOOL_SEARCH = "ToolSearch"
    PREFIX_TOOLS = "PrefixTools"
    SET_TOOL_METADATA = "SetToolMetadata"
    CITATIONS = "Citations"
    CACHING = "Caching"
    REINJECT_SYSTEM_PROMPT = "ReinjectSystemPrompt"
    RAISE_CONTENT_FILTER_ERROR = "RaiseContentFilterError"
    WEB_SEARCH = "WebSearch"
    WEB_FETCH = "WebFetch"


class Capability(Model):
    """A pydantic-ai capability and its settings."""

    name: CapabilityName = Field(description="Which capability.")
    settings: OpenObject | None = Field(
        default=None,
        description="The capability's arguments, as pydantic-ai names them, for instance {effort: low} for Thinking.",
    )


class Limits(Model):
    """Bounds of one run and of one request."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.toolTimeoutSeconds) || self.toolTimeoutSeconds <= (has(self.runTimeoutSeconds) ? self.runTimeoutSeconds : 300)",
            message="limits.toolTimeoutSeconds is longer than limits.runTimeoutSeconds (default 300): lower it or raise runTimeoutSeconds",
            field_path=".toolTimeoutSeconds",
        ),
    )

    requests_per_run: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=50, description="Model requests in one run. Default 50."
    )
    tool_calls_per_run: Annotated[int, Field(ge=0, le=10000)] | None = Field(
        default=None, description="Tool calls in one run. Default: no limit but requestsPerRun."
    )
    total_tokens_per_run: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Input and output tokens of one run. Default: no limit."
    )
    run_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=300, description="Seconds that a run may take. Default 300."
    )
    tool_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=30, description="Seconds that one tool call may take. Default 30."
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=67_108_864)] = Field(
        default=1_048_576, description="Bytes of a request's body. Default 1048576 (1 MiB)."
    )
    max_conversation_messages: Annotated[int, Field(ge=2, le=10000)] = Field(
        default=100, description="Messages that a run may send to the model at once. Default 100."
    )


class Retries(Model):
    """ModelRetry rounds: how often the model may correct itself."""

    output: Annotated[int, Field(ge=0, le=10)] = Field(
        default=1, description="Rounds for an invalid output. Default 1."
    )
    tools: Annotated[int, Field(ge=0, le=10)] = Field(
        default=1, description="Rounds for a failed tool call. Default 1."
    )


class AgentSpec(Model):
    """What the agent does: declared here, or the user's own `pydantic_ai.Agent`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.instructions) ? 1 : 0) + (has(self.instructionsFrom) ? 1 : 0) + (has(self.entrypoint) ? 1 : 0) == 1",
            message="agent needs exactly one of instructions, instructionsFrom or entrypoint",
        ),
        Rule(
            rule="!has(self.entrypoint) || !has(self.tools)",
            message="tools stand beside instructions; an agent by entrypoint brings its own: remove tools",
        ),
        Rule(
            rule="!has(self.entrypoint) || !has(self.outputSchema)",
            message="outputSchema stands beside instructions; an agent by entrypoint has its own output_type: remove outputSchema",
        ),
        Rule(
            rule="!has(self.entrypoint) || !has(self.retries)",
            message="retries stand beside instructions; an agent by entrypoint has its own: remove retries",
        ),
    )

    description: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="One sentence for people and for other agents."
    )
    instructions: Instructions | None = Field(
        default=None, description="What the model is told. Plain text: `{{x}}` and `{x}` stay as they are."
    )
    instructions_from: InstructionsSource | None = Field(
        default=None,
        description="Instructions that stand in a ConfigMap of this namespace; a change of that key is a new revision.",
    )
    entrypoint: ImportPath | None = Field(
        default=None,
        description="`module:attribute` of your own pydantic_ai.Agent, or of a factory without arguments. `spec.model`, when its name is "
        "not empty, replaces the agent's model.",
    )
    tools: Annotated[tuple[ImportPath, ...], ListType("set"), Field(max_length=64)] = Field(
        default=(), description="`module:attribute` of Python functions or toolsets of your package."
    )
    deps: ImportPath | None = Field(
        default=None,
        description="`module:attribute` that builds `ctx.deps`, once per pod: a callable, coroutine function or async context manager "
        "(closed after the drain). Default: agentservice_runtime.Deps.",
    )
    input: InputSpec | None = Field(
        default=None,
        description="Typed requests: validated before any model call, 422 on mismatch. Default: the input is a string.",
    )
    output_schema: ObjectSchema | None = Field(
        default=None,
        description="JSON Schema (2020-12) of the answer. An answer that does not fit is given back to the model, then refused.",
    )
    mcp_servers: Annotated[tuple[McpServer, ...], ListType("map", ("name",)), Field(max_length=16)] = Field(
        default=(), description="MCP servers whose tools the agent may call. Default: none."
    )
    capabilities: Annotated[
        tuple[Capability, ...],
        ListType("atomic"),
        Field(max_length=16),
        Rules(
            (
                Rule(
                    rule="self.all(c, self.exists_one(d, d.name == c.name))",
                    message="a capability stands in capabilities twice: remove one",
                ),
            )
        ),
    ] = Field(
        default=(), description="Capabilities of pydantic-ai that are switched on, each at most once. Default: none."
    )
    limits: Limits = Field(default=Limits(), description="Bounds of one run and of one request.")
    retries: Retries = Field(
        default=Retries(), description="How often the model may correct itself (ModelRetry rounds)."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> AgentSpec:
        given = [n for n in ("instructions", "instructions_from", "entrypoint") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("needs exactly one of instructions, instructionsFrom or entrypoint")
        return self
