"""The AgentService resource: its types, its conditions, and what the operator hands to the runtime."""

from agentservice_api.conditions import ConditionType, EventReason, Reason
from agentservice_api.config import RuntimeConfig, runtime_config
from agentservice_api.spec import AgentService, AgentServiceSpec
from agentservice_api.status import AgentServiceStatus, Condition

__all__ = [
    "AgentService",
    "AgentServiceSpec",
    "AgentServiceStatus",
    "Condition",
    "ConditionType",
    "EventReason",
    "Reason",
    "RuntimeConfig",
    "runtime_config",
]
