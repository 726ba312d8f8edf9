"""The AgentService resource as types: what `agentservice.yaml` says, field by field."""

from agentservice_api.spec.agent import AgentSpec, Capability, InputSpec, InstructionsSource, Limits, McpServer, Retries
from agentservice_api.spec.auth import AuthSpec, AuthToken, AuthType
from agentservice_api.spec.autoscaling import AutoscalingProvider, AutoscalingSpec
from agentservice_api.spec.budget import (
    BudgetSpec,
    Degrade,
    LedgerChoice,
    LedgerSettings,
    OnLedgerUnavailable,
    WindowBudget,
)
from agentservice_api.spec.cache import CacheScope, CacheSpec
from agentservice_api.spec.conversations import ConversationsSpec, ConversationStore
from agentservice_api.spec.errors import ErrorMessages, ErrorsSpec
from agentservice_api.spec.model import Fallback, ModelChoice, ModelSettings, ModelSpec, Pricing, Retry
from agentservice_api.spec.network import (
    Destination,
    HttpRouteSpec,
    IngressSpec,
    IpBlock,
    NetworkSpec,
    ParentReference,
    Peer,
    PolicyPort,
    PolicySpec,
    ServiceSpec,
    ServiceType,
)
from agentservice_api.spec.observability import LogfireSpec, LogFormat, LogLevel, ObservabilitySpec, OtlpSpec
from agentservice_api.spec.postgres import PostgresSpec
from agentservice_api.spec.queue import Durability, QueueSpec, QueueWorkers
from agentservice_api.spec.redis import RedisSpec
from agentservice_api.spec.references import (
    ConfigMapKeySelector,
    EnvFromSource,
    EnvVar,
    KeySelector,
    LocalObjectReference,
    SecretKeySelector,
    SecretSource,
)
from agentservice_api.spec.resource import AgentService, AgentServiceSpec, Metadata
from agentservice_api.spec.rollout import RolloutSpec
from agentservice_api.spec.runtime import ImagePullPolicy, Probe, Probes, Resources, RuntimeSpec, Volume, VolumeMount

__all__ = [
    "AgentService",
    "AgentServiceSpec",
    "AgentSpec",
    "AuthSpec",
    "AuthToken",
    "AuthType",
    "AutoscalingProvider",
    "AutoscalingSpec",
    "BudgetSpec",
    "CacheScope",
    "CacheSpec",
    "Capability",
    "ConfigMapKeySelector",
    "ConversationStore",
    "ConversationsSpec",
    "Degrade",
    "Destination",
    "Durability",
    "EnvFromSource",
    "EnvVar",
    "ErrorMessages",
    "ErrorsSpec",
    "Fallback",
    "HttpRouteSpec",
    "ImagePullPolicy",
    "IngressSpec",
    "InputSpec",
    "InstructionsSource",
    "IpBlock",
    "KeySelector",
    "LedgerChoice",
    "LedgerSettings",
    "Limits",
    "LocalObjectReference",
    "LogFormat",
    "LogLevel",
    "LogfireSpec",
    "McpServer",
    "Metadata",
    "ModelChoice",
    "ModelSettings",
    "ModelSpec",
    "NetworkSpec",
    "ObservabilitySpec",
    "OnLedgerUnavailable",
    "OtlpSpec",
    "ParentReference",
    "Peer",
    "PolicyPort",
    "PolicySpec",
    "PostgresSpec",
    "Pricing",
    "Probe",
    "Probes",
    "QueueSpec",
    "QueueWorkers",
    "RedisSpec",
    "Resources",
    "Retries",
    "Retry",
    "RolloutSpec",
    "RuntimeSpec",
    "SecretKeySelector",
    "SecretSource",
    "ServiceSpec",
    "ServiceType",
    "Volume",
    "VolumeMount",
    "WindowBudget",
]
