"""A process pays only for what its agent uses."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import agentservice_runtime
from pathlib import Path
from agentservice_api import RuntimeConfig
from agentservice_runtime.frugal import UNUSED, unseen
with unseen(*UNUSED):
    from agentservice_runtime.serve import create_app
from agentservice_runtime.secrets import SecretFiles
config = RuntimeConfig.model_validate({
    "name": "a", "namespace": "b", "agent": {"instructions": "x"}, "model": {"name": "test"}, "auth": {},
    "serving": {"concurrencyPerPod": 1, "drainTimeoutSeconds": 10}, "observability": {},
})
create_app(config, secrets=SecretFiles(Path("nowhere")))
print(*sorted({"openai", "anthropic", "google.genai", "boto3", "mcp", "fastmcp", "kubernetes", "kopf", "ag_ui", "asyncpg", "redis",
              "opentelemetry.sdk", "logfire", "requests", "rich", "pygments", "watchfiles", "python_multipart", "jsonschema", "regex"} & sys.modules.keys()))
"""


def test_no_provider_and_no_tool_client_is_imported_that_the_agent_does_not_use():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_asking_for_deps_loads_neither_server_nor_agent_library():
    program = "import sys; from agentservice_runtime import Deps; print(*({'fastapi', 'pydantic_ai', 'uvicorn'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
