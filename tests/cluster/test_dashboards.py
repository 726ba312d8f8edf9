"""What a real Prometheus sees of real pods: each series moves as its sentence says, and every panel of every dashboard has data.

The tests follow each other: the agents are the same, and the first model requests of one of them fail. With the environment variable
DRAW (`make pictures`) they also draw the dashboards into the folder that it names.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentservice_api.series import OperatorSeries, PodSeries
from devcluster import install
from devcluster.cluster import Cluster
from devcluster.progress import Progress
from devcluster.promtool import prometheus
from devcluster.settings import REPOSITORY, read_settings

from .drawing import draw, queries
from .pods.kube import Kube, Manifest
from .pods.waiting import wait
from .scene import ATTEMPTS, AWAY, BUSY, FAILING_FIRST, LIMPING, POOR, SLOW, STUCK, TOOL, Scene
from .scraper import Prometheus, Told, chart_monitors, key
from .shipped import run

FILES = REPOSITORY / "charts" / "agentservice-operator" / "files"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
RATE_INTERVAL = "20s"
"""What Grafana puts there: no less than four scrapes."""
BUSY_MODEL = f"openai-chat:503-first-{FAILING_FIRST}"
BILLED_MODEL = f"openai:503-first-{FAILING_FIRST}"
"""As prices and budgets name it."""


@pytest.fixture(scope="module")
def scene(kube: Kube, manifest: Callable[[str], str]) -> Iterator[Scene]:
    namespace = f"shop-{uuid.uuid4().hex[:6]}"
    kube.kubectl("create", "namespace", namespace)
    scene = Scene(kube=kube, namespace=namespace)
    scene.build(manifest("model-server"), manifest("redis/redis.yaml"))
    yield scene
    kube.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def monitors(cluster: Cluster) -> list[Manifest]:
    return chart_monitors(cluster)


@pytest.fixture(scope="module")
def scraper(
    kube: Kube, scene: Scene, monitors: list[Manifest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    with Prometheus(
        prometheus(read_settings(), progress=Progress()),
        kube=kube,
        monitors=monitors,
        namespace=scene.namespace,
        directory=tmp_path_factory.mktemp("prometheus"),
        rules=sorted(FILES.glob("*-alerts.yaml")),
    ) as found:
        yield found


@contextmanager
def moving(scene: Scene, scraper: Prometheus, name: str) -> Iterator[dict[str, float]]:
    """Take from the body what is to have moved by how much, and wait until it has; no other member of these families may."""

    def told() -> Told:
        return scraper.told(namespace=scene.namespace, agent=name)

    scraper.catch_up()
    before, expected = told(), dict[str, float]()
    yield expected
    families = {series.partition("{")[0] for series in expected}

    def moved() -> dict[str, float]:
        now = told()
        changes = {
            series: now[series] - before.get(series, 0) for series in now if series.partition("{")[0] in families
        }
        return {series: change for series, change in changes.items() if change}

    wanted = {series: pytest.approx(by, abs=1e-9) for series, by in expected.items() if by}
    wait("Prometheus has seen it", lambda: moved() == wanted, seconds=120, why=lambda: f"{moved()}\n{wanted}")


def usage(answers: list[dict[str, Any]], name: str) -> int:
    return sum(answer["usage"][name] for answer in answers)


def test_tasks_move_the_series_of_the_queue_and_those_that_fail_are_tried_again_until_they_are_given_up(
    scene: Scene, scraper: Prometheus
):
    failures = FAILING_FIRST
    with moving(scene, scraper, BUSY) as expected:
        tasks = [scene.ended(scene.submit(f"Task {number}")) for number in range(3)]
        assert [task["status"] for task in tasks] == ["failed", "succeeded", "succeeded"]
        assert [task["attempts"] for task in tasks] == [ATTEMPTS, 2, 1]
        expected |= {
            key(PodSeries.TASKS_SUBMITTED): 3,
            key(PodSeries.TASKS_ATTEMPTS): sum(task["attempts"] for task in tasks),
            key(PodSeries.TASKS_RETRIED, category="external_service"): failures - 1,
            key(PodSeries.TASKS_FINISHED, status="succeeded"): 2,
            key(PodSeries.TASKS_FINISHED, status="failed"): 1,
            key(PodSeries.TASKS_DEAD, reason="attempts"): 1,
            key(PodSeries.TASKS_AGE, "_count"): 3,
            key(PodSeries.RUNS, status="external_service"): failures,
            key(PodSeries.RUNS, status="success"): 2,
            key(PodSeries.MODEL_REQUESTS, model=BUSY_MODEL, status="external_service"): failures,
            key(PodSeries.MODEL_REQUESTS, model=BUSY_MODEL, status="success"): 4,
        }


def test_runs_and_streams_move_the_series_of_the_guide_by_what_their_callers_were_told(
    scene: Scene, scraper: Prometheus
):
    with moving(scene, scraper, BUSY) as expected:
        asked = [run(scene.agent(BUSY), f"Count {number}") for number in range(4)]
        assert {status for status, _ in asked} == {200}
        events = scene.stream(BUSY, "Count on").split("\n\n")
        (last,) = [event for event in events if event.startswith("event: result")]
        answers = [answer for _, answer in asked] + [json.loads(last.partition("data: ")[2])]
        requests = 2 * len(answers)
        expected |= {
            key(PodSeries.RUNS, status="success"): len(answers),
            key(PodSeries.RUN_SECONDS, "_count"): len(answers),
            key(PodSeries.TOKENS, token_type="input"): usage(answers, "input_tokens"),
            key(PodSeries.TOKENS, token_type="output"): usage(answers, "output_tokens"),
            key(PodSeries.ACTIVE): 0,
            key(PodSeries.COST, model=BUSY_MODEL): sum(float(answer["cost_usd"]) for answer in answers),
            key(PodSeries.MODEL_REQUESTS, model=BUSY_MODEL, status="success"): requests,
            key(PodSeries.MODEL_SECONDS, "_count", model=BUSY_MODEL): requests,
            key(PodSeries.FIRST_TOKEN_SECONDS, "_count", model=BUSY_MODEL): 2,
            key(PodSeries.TOOL_CALLS, tool=TOOL, status="success"): len(answers),
            key(PodSeries.TOOL_SECONDS, "_count", tool=TOOL): len(answers),
            key(PodSeries.BUDGET_TOKENS, model=BILLED_MODEL): usage(answers, "total_tokens"),
            key(PodSeries.BUDGET_WAIT, "_count"): requests,
        }


def test_a_cached_answer_uses_nothing_and_is_counted_with_what_it_saved(scene: Scene, scraper: Prometheus):
    with moving(scene, scraper, BUSY) as expected:
        first = run(scene.agent(BUSY), "When do you open?")[1]
        answers = [first]
        while answers[-1]["cache"] != "hit":
            answers.append(run(scene.agent(BUSY), "When do you open?")[1])
        paid = [answer for answer in answers if answer["cache"] != "hit"]
        outcomes = Counter(answer["cache"] for answer in answers)
        expected |= {key(PodSeries.CACHE_RUNS, outcome=outcome): count for outcome, count in outcomes.items()}
        expected |= {
            key(PodSeries.CACHE_SAVED): first["usage"]["total_tokens"],
            key(PodSeries.TOKENS, token_type="input"): usage(paid, "input_tokens"),
            key(PodSeries.TOKENS, token_type="output"): usage(paid, "output_tokens"),
            key(PodSeries.RUNS, status="success"): len(answers),
        }


def test_a_retry_a_fallback_and_a_slow_run_are_counted_by_model_and_category(scene: Scene, scraper: Prometheus):
    with moving(scene, scraper, LIMPING) as expected:
        status, answer = run(scene.agent(LIMPING), "Are you there?")
        assert (status, answer["model"]) == (200, SLOW)
        expected |= {
            key(PodSeries.RUNS, status="success"): 1,
            key(PodSeries.RETRIES, model=AWAY, category="external_service"): 1,
            key(PodSeries.FALLBACKS, model=SLOW, category="external_service"): 1,
            key(PodSeries.MODEL_REQUESTS, model=AWAY, status="external_service"): 2,
            key(PodSeries.MODEL_REQUESTS, model=SLOW, status="success"): 1,
            key(PodSeries.SLOW_RUNS): 1,
        }


def test_what_is_billed_beyond_the_budget_and_what_is_refused_is_counted_by_why(scene: Scene, scraper: Prometheus):
    with moving(scene, scraper, POOR) as expected:
        assert run(scene.agent(POOR), "Are you there?")[0] == 200
        assert run(scene.agent(POOR), "And now?")[0] == 429
        assert run(scene.agent(POOR), 42)[0] == 422
        expected |= {
            key(PodSeries.RUNS, status="success"): 1,
            key(PodSeries.RUNS, status="budget"): 1,
            key(PodSeries.RUNS, status="validation"): 1,
            key(PodSeries.BUDGET_REFUSED, reason="exhausted"): 1,
        }
    assert scraper.told(namespace=scene.namespace, agent=POOR)[key(PodSeries.BUDGET_OVERRUN_TOKENS)] > 0
    becomes(scraper, f'{OperatorSeries.BUDGET_OVERRUN}{{namespace="{scene.namespace}",name="{POOR}"}} > bool 0', 1)


def test_a_run_under_way_is_told_and_counted_as_cancelled_when_it_is(scene: Scene, scraper: Prometheus):
    with moving(scene, scraper, LIMPING) as expected:
        with scene.under_way(LIMPING):
            becomes(scraper, f'{PodSeries.ACTIVE}{{namespace="{scene.namespace}",agent_name="{LIMPING}"}}', 1)
        expected |= {key(PodSeries.ACTIVE): 0, key(PodSeries.RUNS, status="cancelled"): 1}


def becomes(scraper: Prometheus, expression: str, value: float) -> None:
    wait(
        f"{expression} is {value:g}",
        lambda: scraper.value(expression) == value,
        seconds=120,
        why=lambda: scraper.query(expression),
    )


def test_the_operator_tells_what_pods_have_settled_and_how_its_agents_are(scene: Scene, scraper: Prometheus):
    of_busy = f'namespace="{scene.namespace}",name="{BUSY}",window="daily"'
    settled = scraper.value(f'{PodSeries.BUDGET_TOKENS}{{namespace="{scene.namespace}",agent_name="{BUSY}"}}')
    assert settled > 0
    becomes(scraper, f'{OperatorSeries.BUDGET_USED}{{{of_busy},unit="tokens"}}', settled)
    becomes(scraper, f'{OperatorSeries.BUDGET_LIMIT}{{{of_busy},unit="usd"}}', 0.2)
    for name, kind, status in (
        (BUSY, "Ready", "True"),
        (STUCK, "Ready", "False"),
        (STUCK, "Stalled", "True"),
        (POOR, "BudgetAvailable", "False"),
    ):
        condition = f'namespace="{scene.namespace}",name="{name}",type="{kind}",status="{status}"'
        becomes(scraper, f"{OperatorSeries.CONDITION}{{{condition}}}", 1)
    becomes(scraper, f'{OperatorSeries.LEADER}{{name="{install.RELEASE}"}}', 1)


def test_every_query_of_every_panel_of_every_dashboard_has_data_and_every_rule_is_well(
    scene: Scene, scraper: Prometheus
):
    with scene.under_way(LIMPING):
        scene.kill(LIMPING)
    panels = [
        (path.stem, panel)
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    ]
    # a number that is 0 where there is nothing would always have data
    missing = {
        f"{dashboard}: {panel['title']}: {expression.removesuffix(' or vector(0)')}": expression.removesuffix(
            " or vector(0)"
        )
        for dashboard, panel in panels
        for expression, _ in queries(panel, scene.namespace, rate_interval=RATE_INTERVAL)
    }
    assert len(missing) > len(panels) > 50
    deadline = time.monotonic() + 240
    for number in itertools.count():
        scene.round(number)
        scraper.catch_up()
        missing = {name: expression for name, expression in missing.items() if not scraper.query(expression)}
        if not missing:
            break
        assert time.monotonic() < deadline, "never had data:\n" + "\n".join(missing)
    (leaders,) = [panel for _, panel in panels if panel["title"] == "Leaders"]
    # what narrows a query to our pods leaves its values alone
    becomes(scraper, leaders["targets"][0]["expr"], 1)
    for rule in scraper.rules():
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
    recorded = {rule["name"] for rule in scraper.rules() if rule["type"] == "recording"}
    assert recorded == {name for name in recorded if scraper.query(name)}
    if folder := os.environ.get("DRAW"):
        draw(scene, scraper, dashboards=DASHBOARDS, folder=Path(folder))


def test_a_pod_that_drains_says_so_until_it_is_gone(scene: Scene, scraper: Prometheus):
    (pod,) = scene.agent(LIMPING).pods()
    with scene.under_way(LIMPING):
        scene.kube.delete("Pod", scene.namespace, pod["metadata"]["name"])
        becomes(scraper, f'{PodSeries.DRAINING}{{namespace="{scene.namespace}",agent_name="{LIMPING}"}}', 1)
