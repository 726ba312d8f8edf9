"""What we say about pydantic-ai's providers and capabilities is what the installed pydantic-ai says."""

import ast
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import AgentSpec

from agentservice_api.semantics.capabilities import COMMON, OPEN, SETTINGS
from agentservice_api.semantics.models import NOT_SHIPPED, SHIPPED
from agentservice_api.spec.agent import CapabilityName

IN_THE_IMAGE = {"anthropic", "boto3", "botocore", "google", "openai"}
"""What the runtime's extras openai, anthropic, google and bedrock bring."""
OF_PYDANTIC_AI = {
    "anyio",
    "genai_prices",
    "httpx",
    "httpx2",
    "opentelemetry",
    "pydantic",
    "pydantic_ai",
    "typing_extensions",
}


@cache
def providers() -> dict[str, str]:
    """Return the module of each provider, read from the source: importing them all takes seconds."""
    found: dict[str, str] = {}
    for case in ast.walk(ast.parse((package() / "__init__.py").read_text())):
        if isinstance(case, ast.match_case):
            names = [node.value for node in ast.walk(case.pattern) if isinstance(node, ast.Constant)]
            modules = [node.module for node in ast.walk(case) if isinstance(node, ast.ImportFrom) and node.module]
            found.update({str(name): modules[0] for name in names if modules})
    return found


def package() -> Path:
    spec = find_spec("pydantic_ai.providers")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def packages_of(provider: str) -> set[str]:
    """Return the packages outside pydantic-ai that a provider's module imports."""
    tree = ast.parse((package() / f"{providers()[provider]}.py").read_text())
    roots = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    return {root.partition(".")[0] for root in roots} - sys.stdlib_module_names - OF_PYDANTIC_AI


@pytest.mark.parametrize("provider", sorted(SHIPPED))
def test_a_provider_that_we_ship_needs_only_packages_of_the_image(provider: str) -> None:
    assert packages_of(provider) <= IN_THE_IMAGE


@pytest.mark.parametrize("provider", sorted(NOT_SHIPPED))
def test_a_provider_that_we_do_not_ship_needs_another_package(provider: str) -> None:
    assert packages_of(provider) - IN_THE_IMAGE


@pytest.mark.parametrize("name", list(CapabilityName))
def test_the_settings_of_a_capability_are_those_that_it_takes(name: CapabilityName) -> None:
    parameters = definitions().get(f"spec_params_{name.value}")
    if parameters is None:
        assert name in OPEN
        return
    assert set(parameters["properties"]) == {*SETTINGS[name], *COMMON} - (
        {*COMMON} if name is CapabilityName.PREFIX_TOOLS else set()
    )


@cache
def definitions() -> dict[str, Any]:
    return AgentSpec.model_json_schema_with_capabilities()["$defs"]
