"""Decides how this process is set up, from environment variables only. Every bad value is named, with its mend."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_network
from typing import Any, TypeVar, cast

import orjson

from agentservice_api.defaults import defaults_problems
from agentservice_operator.render import ApiServerAddresses

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

_API_SERVER = ApiServerAddresses()

T = TypeVar("T")


class SettingsError(Exception):
    """One or more environment variables cannot be used; `problems` has one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class LogFormat(Enum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class PullPolicy(Enum):
    """`imagePullPolicy` as Kubernetes spells it."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The process's settings.

    `watch_namespaces`: empty means the whole cluster. `workers`: reconciles at a time, 1 to 100. `resync_seconds`: how
    often each object is looked at though nothing happened, 30 to 86400. `secrets_seconds`: how often Secrets are looked at for agents
    that restart when one changes, 1 to 3600. `agent_defaults` is what a platform sets for
    all agents (the chart's `agentDefaults`). `api_server_cidrs` and `api_server_ports` are where pods with a NetworkPolicy may reach the
    API server. `price_book` names a ConfigMap in the operator's namespace; empty: none. `prometheus_address` is the URL of a Prometheus that KEDA may ask; empty:
    none.
    """

    runtime_image: str
    runtime_image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    watch_namespaces: tuple[str, ...] = ()
    pod_namespace: str = "agentservice-system"
    pod_name: str = "agentservice-operator"
    lease_name: str = "agentservice-operator"
    agent_defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    price_book: str = ""
    prometheus_address: str = ""
    api_server_cidrs: tuple[str, ...] = _API_SERVER.cidrs
    api_server_ports: tuple[int, ...] = _API_SERVER.ports
    workers: int = 48
    resync_seconds: int = 600
    secrets_seconds: int = 60
    log_level: int = logging.INFO
    log_format: LogFormat = LogFormat.JSON
    http_port: int = 8080


def from_environment(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`; an absent or empty variable means its default.

    Raises:
        SettingsError: with every problem at once, so that a person mends them in one go.
    """
    problems: list[str] = []

    def read(name: str, default: T, parse: Callable[[str], T], mend: str) -> T:
        text = environ.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            problems.append(f"{name}={text[:100]!r}: {mend}")
            return default

    settings = Settings(
        runtime_image=read("RUNTIME_IMAGE", "", _image, "give an image reference without spaces"),
        runtime_image_pull_policy=read(
            "RUNTIME_IMAGE_PULL_POLICY",
            PullPolicy.IF_NOT_PRESENT,
            PullPolicy,
            f"use one of {_choices(PullPolicy)}",
        ),
        watch_namespaces=read(
            "WATCH_NAMESPACES",
            (),
            _namespaces,
            "give namespace names separated by commas, or nothing for the whole cluster",
        ),
        pod_namespace=read(
            "POD_NAMESPACE",
            "agentservice-system",
            _matching(_NAMESPACE),
            "give the operator's own namespace (downward API metadata.namespace)",
        ),
        pod_name=read(
            "POD_NAME",
            "agentservice-operator",
            _matching(_NAME),
            "give the pod's name (downward API metadata.name)",
        ),
        lease_name=read(
            "LEASE_NAME",
            "agentservice-operator",
            _matching(_NAME),
            "give a Lease name: lower-case letters, digits, - and .",
        ),
        agent_defaults=read("AGENT_DEFAULTS", {}, _mapping, "give a JSON object"),
        price_book=read("PRICE_BOOK", "", _matching(_NAME), "give the name of a ConfigMap, or nothing"),
        prometheus_address=read(
            "PROMETHEUS_ADDRESS",
            "",
            _address,
            "give the URL of a Prometheus, such as http://prometheus.monitoring.svc:9090",
        ),
        api_server_cidrs=read(
            "API_SERVER_CIDRS",
            _API_SERVER.cidrs,
            _cidrs,
            "give ranges of addresses separated by commas, such as 10.0.0.0/8",
        ),
        api_server_ports=read(
            "API_SERVER_PORTS", _API_SERVER.ports, _ports, "give ports separated by commas, such as 443,6443"
        ),
        workers=read("WORKERS", 48, _between(1, 100), "give a whole number from 1 to 100"),
        resync_seconds=read("RESYNC_SECONDS", 600, _between(30, 86400), "give whole seconds from 30 to 86400"),
        secrets_seconds=read("SECRETS_SECONDS", 60, _between(1, 3600), "give whole seconds from 1 to 3600"),
        log_level=read("LOG_LEVEL", logging.INFO, _level, "use one of debug, info, warning, error"),
        log_format=read("LOG_FORMAT", LogFormat.JSON, LogFormat, f"use one of {_choices(LogFormat)}"),
        http_port=read("HTTP_PORT", 8080, _between(0, 65535), "give a port from 0 (any free one) to 65535"),
    )
    if not environ.get("RUNTIME_IMAGE", "").strip():
        problems.append("RUNTIME_IMAGE is not set: give the image that agent pods run (the chart's runtime.image)")
    problems += [f"AGENT_DEFAULTS: {problem}" for problem in defaults_problems(settings.agent_defaults)]
    if problems:
        raise SettingsError(tuple(problems))
    return settings


def _image(text: str) -> str:
    if re.search(r"\s", text):
        raise ValueError(text)
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s@?#]+", text):  # no credentials: it stands in a ScaledObject for all to read
        raise ValueError(text)
    return text


def _namespaces(text: str) -> tuple[str, ...]:
    names = {part.strip() for part in text.split(",") if part.strip()}
    for name in names:
        _matching(_NAMESPACE)(name)
    return tuple(sorted(names))


def _cidrs(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(part.strip())) for part in text.split(","))


def _ports(text: str) -> tuple[int, ...]:
    return tuple(_between(1, 65535)(part) for part in text.split(","))


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return text

    return parse


def _between(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not lowest <= number <= highest:
            raise ValueError(text)
        return number

    return parse


def _mapping(text: str) -> Mapping[str, Any]:
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return cast("dict[str, Any]", value)


def _level(text: str) -> int:
    levels = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    try:
        return levels[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _choices(kind: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in kind)
