"""The stack of examples/compose, brought up once for all tests of this folder and removed afterwards.

A test that needs it fails in CI when it cannot be had, and is skipped elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from devcluster import images
from devcluster.errors import ClusterError
from devcluster.locks import only_one
from devcluster.progress import Progress
from devcluster.settings import Settings, read_settings
from devcluster.standalone import free_ports

from . import engine as engines
from .stack import AGENTS, EXAMPLE, Stack, until

SUBNET = "172.28.251"
"""Beside the example's own, which may be up on this machine."""
DAILY_TOKENS = 400_000


def manifest() -> dict[str, Any]:
    """The example's agent, with the stand-in as its model, whose streams take their time, and a budget that a test can spend."""
    agent: dict[str, Any] = yaml.safe_load((EXAMPLE / "agent.yaml").read_text())
    spec = agent["spec"]
    spec["model"] |= {
        "name": "openai-chat:stream-20-500",
        "baseURL": "http://model:8000/v1",
        "settings": {"maxTokens": 100},
        "pricing": {"inputPerMillionUSD": "0.15", "outputPerMillionUSD": "0.60"},
    }
    spec["budget"]["daily"]["tokens"] = DAILY_TOKENS
    return agent


@pytest.fixture(scope="session")
def settings() -> Settings:
    return read_settings()


@pytest.fixture(scope="session")
def engine(settings: Settings) -> engines.Engine:
    try:
        return engines.choose(settings, progress=Progress())
    except ClusterError as error:
        if settings.ci:
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def stack(settings: Settings, engine: engines.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, each agent ready. One at a time on a machine, because of its addresses."""
    built = images.stack(settings, progress=Progress())
    agent = tmp_path_factory.mktemp("compose") / "agent.yaml"
    agent.write_text(yaml.safe_dump(manifest()))
    nginx, prometheus, model = (f"127.0.0.1:{port}" for port in free_ports(3))
    up = Stack(
        engine,
        subnet=SUBNET,
        settings={
            **{f"IMAGE_{name.upper()}": image.name for name, image in _images(built).items()},
            **{name: f"{name.lower().replace('_', '')}0" for name in secrets()},
            "AGENT_YAML": str(agent),
            "SUBNET": SUBNET,
            "LISTEN": nginx,
            "PROMETHEUS_LISTEN": prometheus,
            "MODEL_LISTEN": model,
        },
    )
    with only_one(settings.cache / "compose.lock", waiting=lambda: None):
        # what a killed run has left
        _remove(up)
        try:
            started = up.compose("up", "--detach")
            assert started.returncode == 0, (started.stdout + started.stderr)[-4000:]
            for name in AGENTS:
                until(lambda name=name: up.is_ready(name), what=f"{name} is ready")
            yield up
        finally:
            _remove(up)


def secrets() -> list[str]:
    """What .env.example asks for."""
    lines = (EXAMPLE / ".env.example").read_text().splitlines()
    return [line.partition("=")[0] for line in lines if line and not line.startswith("#")]


def _images(built: images.Stack) -> dict[str, images.Image]:
    return {name: getattr(built, name) for name in ("agent", "redis", "postgres", "nginx", "prometheus")}


def _remove(stack: Stack) -> None:
    stack.compose("down", "--volumes", "--timeout", "0")
