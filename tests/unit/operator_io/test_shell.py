"""Settings, logs, health and metrics of the process."""

import io
import json
import logging
import time
from typing import Any

import aiohttp
import pytest

from agentservice_operator.kube.client import Exchange
from agentservice_operator.kube.resources import PODS
from agentservice_operator.manifest import Key
from agentservice_operator.queue import WorkQueue
from agentservice_operator.shell import logging as shell_logging
from agentservice_operator.shell.health import STUCK_SECONDS, Health, HealthServer
from agentservice_operator.shell.metrics import Metrics, Outcome
from agentservice_operator.shell.settings import LogFormat, PullPolicy, SettingsError, from_environment

KEY = Key("team-a", "support")


def test_the_image_alone_is_enough() -> None:
    made = from_environment({"RUNTIME_IMAGE": "example.org/runtime:1", "WATCH_NAMESPACES": "", "WORKERS": " "})
    assert (made.watch_namespaces, made.workers, made.http_port) == ((), 48, 8080)


def test_every_variable_is_read() -> None:
    made = from_environment(
        {
            "RUNTIME_IMAGE": "i",
            "RUNTIME_IMAGE_PULL_POLICY": "Always",
            "WATCH_NAMESPACES": "b, a,b",
            "POD_NAMESPACE": "ops",
            "POD_NAME": "op-0",
            "LEASE_NAME": "lead",
            "AGENT_DEFAULTS": '{"observability": {"environment": "staging"}}',
            "API_SERVER_CIDRS": "192.0.2.0/24, 2001:db8::/32",
            "API_SERVER_PORTS": "6443",
            "WORKERS": "4",
            "RESYNC_SECONDS": "60",
            "LOG_LEVEL": "DEBUG",
            "LOG_FORMAT": "text",
            "HTTP_PORT": "0",
        }
    )
    assert made.watch_namespaces == ("a", "b")
    assert made.runtime_image_pull_policy is PullPolicy.ALWAYS
    assert made.agent_defaults == {"observability": {"environment": "staging"}}
    assert (made.api_server_cidrs, made.api_server_ports) == (("192.0.2.0/24", "2001:db8::/32"), (6443,))
    assert (made.log_level, made.log_format, made.resync_seconds) == (logging.DEBUG, LogFormat.TEXT, 60)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNTIME_IMAGE", "two words"),
        ("RUNTIME_IMAGE_PULL_POLICY", "Sometimes"),
        ("WATCH_NAMESPACES", "a,B_"),
        ("POD_NAMESPACE", "Not_One"),
        ("LEASE_NAME", "-x"),
        ("AGENT_DEFAULTS", "[]"),
        ("AGENT_DEFAULTS", "{"),
        ("API_SERVER_CIDRS", "10.0.0.0/8,10.1.2.3/8"),
        ("API_SERVER_PORTS", "443,0"),
        ("WORKERS", "0"),
        ("WORKERS", "many"),
        ("RESYNC_SECONDS", "1"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("HTTP_PORT", "65536"),
    ],
)
def test_a_bad_value_is_named_with_its_mend(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({"RUNTIME_IMAGE": "i", name: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}={value!r}: ")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({"WORKERS": "x", "LOG_LEVEL": "y"})
    assert len(caught.value.problems) == 3


@pytest.fixture
def lines() -> Any:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    yield lambda log_format: (
        shell_logging.configure(level=logging.INFO, log_format=log_format, stream=stream),
        lambda: [line for line in stream.getvalue().splitlines() if line],
    )[1]
    root.handlers[:], _ = before
    root.setLevel(before[1])
    logging.captureWarnings(False)


def test_a_json_line_carries_the_key_and_the_revision_of_the_object(lines: Any) -> None:
    read = lines(LogFormat.JSON)
    log = logging.getLogger("agentservice_operator.reconcile")
    with shell_logging.about(KEY):
        shell_logging.set_revision("5f2c9d1a")
        log.info("applied %s", "Service", extra={"child": "Service"})
    log.info("outside")
    inside, outside = (json.loads(line) for line in read())
    assert inside["message"] == "applied Service"
    assert (inside["namespace"], inside["name"], inside["revision"]) == (*KEY, "5f2c9d1a")
    assert (inside["level"], inside["child"]) == ("info", "Service")
    assert "name" not in outside


def test_an_extra_that_is_no_plain_data_is_not_spelled_out(lines: Any) -> None:
    class Token:
        def __repr__(self) -> str:
            return "canary"

    read = lines(LogFormat.JSON)
    logging.getLogger("x").info("m", extra={"token": Token()})
    assert "canary" not in read()[0]


def test_text_lines_are_for_people(lines: Any) -> None:
    read = lines(LogFormat.TEXT)
    with shell_logging.about(KEY):
        logging.getLogger("x").warning("careful")
    assert "WARNING [team-a/support] careful" in read()[0]


def test_kopf_and_aiohttp_do_not_chatter(lines: Any) -> None:
    read = lines(LogFormat.JSON)
    for name in ("kopf.activities.authentication", "kopf._core.reactor.running", "aiohttp.access"):
        logging.getLogger(name).info("chatter")
    assert read() == []


async def test_liveness_readiness_and_metrics_are_served(eventually: Any) -> None:
    metrics = Metrics()
    health = Health(metrics=lambda: (metrics.render(), "text/plain; version=0.0.4"))
    server = HealthServer(health, port=0, host="127.0.0.1")
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:

            async def ask(path: str) -> tuple[int, str]:
                async with session.get(path) as response:
                    return response.status, await response.text()

            assert await ask("/healthz") == (200, "ok\n")
            assert await ask("/readyz") == (503, "waiting for imports\n")
            health.waiting_for.clear()
            assert (await ask("/readyz"))[0] == 200
            health.longest_running = lambda: STUCK_SECONDS + 1
            assert (await ask("/healthz"))[0] == 503
            status, text = await ask("/metrics")
            assert status == 200
            assert 'controller_runtime_reconcile_total{controller="agentservice",result="error"} 0.0' in text
            assert (await ask("/other"))[0] == 404
    finally:
        await server.stop()


def value(metrics: Metrics, series: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(series, labels)


def test_the_metrics_have_the_names_that_dashboards_know() -> None:
    metrics = Metrics()
    queue = WorkQueue(clock=time.monotonic, random=lambda: 0.5, observer=metrics.queue_observer())
    metrics.watch_queue(queue)
    metrics.workers(16)
    metrics.leading("lease", True)
    metrics.reconcile_began()
    metrics.reconcile_ended(Outcome.ERROR, seconds=0.2)
    metrics.request_observer("host:6443")(Exchange(verb="list", resource=PODS, method="GET", code="200", seconds=0.1))
    queue.add(KEY)
    work = {"name": "agentservice", "controller": "agentservice"}
    assert value(metrics, "workqueue_depth", **work) == 1
    assert value(metrics, "workqueue_adds_total", **work) == 1
    assert value(metrics, "workqueue_unfinished_work_seconds", **work) == 0
    assert value(metrics, "workqueue_longest_running_processor_seconds", **work) == 0
    assert value(metrics, "controller_runtime_reconcile_errors_total", controller="agentservice") == 1
    assert value(metrics, "controller_runtime_active_workers", controller="agentservice") == 0
    assert value(metrics, "controller_runtime_max_concurrent_reconciles", controller="agentservice") == 16
    assert value(metrics, "rest_client_requests_total", code="200", host="host:6443", method="GET") == 1
    assert value(metrics, "leader_election_master_status", name="lease") == 1


def test_a_condition_has_one_series_and_a_deleted_object_none() -> None:
    metrics = Metrics()
    metrics.set_conditions(KEY, {"Ready": "False", "Stalled": "True"})
    metrics.set_conditions(KEY, {"Ready": "True"})
    series = [line for line in metrics.render().decode().splitlines() if line.startswith("agentservice_condition{")]
    assert series == ['agentservice_condition{name="support",namespace="team-a",status="True",type="Ready"} 1.0']
    metrics.set_conditions(KEY, {})
    assert b"agentservice_condition{" not in metrics.render()


def test_agent_defaults_that_no_agent_may_take_from_a_platform_stop_the_process_at_its_start() -> None:
    with pytest.raises(SettingsError, match=r"AGENT_DEFAULTS: agentDefaults\.runtime\.imag: .*did you mean image"):
        from_environment({"RUNTIME_IMAGE": "r", "AGENT_DEFAULTS": '{"runtime": {"imag": "x"}}'})
