"""Debian's Prometheus, which scrapes the pods that PodMonitors select, through the API server, and what it knows of them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from devcluster import install
from devcluster.cluster import Cluster
from devcluster.standalone import free_ports

from .pods.kube import Kube, Manifest, is_pod_ready
from .pods.waiting import wait

SCRAPED_EVERY = 2
"""Seconds."""
_PATIENCE = 120.0
_OURS = ("agent_name", "namespace", "pod", "instance", "job")
Told = dict[str, float]
"""Values by series, as `key` writes them, summed up over pods."""


class Prometheus:
    """A context manager. It scrapes what ``monitors``, PodMonitors, say; one for any namespace looks in ``namespace`` alone."""

    def __init__(
        self,
        program: Path,
        *,
        kube: Kube,
        monitors: Sequence[Manifest],
        namespace: str,
        directory: Path,
        rules: Sequence[Path] = (),
        address: str = "127.0.0.1",
    ) -> None:
        """``address`` is one of this machine's."""
        (port,) = free_ports(1)
        self.url = f"http://{address}:{port}"
        self._kube, self._namespace, self._directory = kube, namespace, directory
        self._monitors = {directory / f"{monitor['metadata']['name']}.json": monitor for monitor in monitors}
        config = directory / "prometheus.yml"
        config.write_text(yaml.safe_dump(_configuration(self._monitors, rules)))
        self._command = [
            str(program),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}:{port}",
        ]

    def __enter__(self) -> Prometheus:
        self._look_for_pods()
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        wait("Prometheus is ready", self._is_ready, seconds=_PATIENCE, why=self.log)
        self.catch_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._process.terminate()
        self._process.wait(30)

    def catch_up(self) -> None:
        """Wait until it has seen every pod that is ready as it is now, or later. Pods that come and go are found here."""
        now = time.time()

        def seen() -> bool:
            ready = self._look_for_pods()
            # of an expression's result it would be the time of asking
            fresh = self.query(f"timestamp(up) > {now} and up == 1")
            return ready <= {one["metric"]["pod"] for one in fresh}

        wait("every pod is scraped", seen, seconds=_PATIENCE, why=lambda: (self.query("up"), self.log()))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of now, without those that are no number."""
        return [sample for sample in self._get("query", query=expression)["result"] if sample["value"][1] != "NaN"]

    def value(self, expression: str) -> float:
        """The sum of the samples of now, 0 where there is none."""
        return sum(float(sample["value"][1]) for sample in self.query(expression))

    def over_time(self, expression: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The samples between two times, in seconds."""
        return self._get("query_range", query=expression, start=start, end=end, step=step)["result"]

    def told(self, *, namespace: str, agent: str) -> Told:
        """Everything that the pods of an agent tell; a scrape that failed does not hide what was told before."""
        # not counted are the processes' own series, which are nobody's
        found = self.query(f'last_over_time({{namespace="{namespace}",agent_name="{agent}"}}[1m])')
        told = Counter[str]()
        for sample in found:
            labels = {name: text for name, text in sample["metric"].items() if name not in _OURS}
            told[key(labels.pop("__name__"), **labels)] += float(sample["value"][1])
        return dict(told)

    def rules(self) -> list[dict[str, Any]]:
        """The recording rules and alerts, each with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def log(self) -> str:
        """What it has said."""
        return (self._directory / "log").read_text()

    def _look_for_pods(self) -> set[str]:
        """Have those scraped that are ready, and return their names: Debian's build cannot ask Kubernetes by itself."""
        names: set[str] = set()
        for targets, monitor in self._monitors.items():
            pods = self._selected(monitor)
            found = json.dumps([target for pod in pods for target in _targets(self._kube.server, monitor, pod)])
            if not targets.exists() or targets.read_text() != found:
                fresh = targets.with_suffix(".new")
                fresh.write_text(found)
                fresh.replace(targets)
            names |= {pod["metadata"]["name"] for pod in pods}
        return names

    def _selected(self, monitor: Manifest) -> list[Manifest]:
        anywhere = monitor["spec"].get("namespaceSelector", {}).get("any")
        namespace = self._namespace if anywhere else monitor["metadata"]["namespace"]
        labels = ",".join(f"{name}={value}" for name, value in monitor["spec"]["selector"]["matchLabels"].items())
        return [pod for pod in self._kube.list("Pod", namespace, selector=labels) if is_pod_ready(pod)]

    def _get(self, path: str, **parameters: Any) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False


def chart_monitors(cluster: Cluster) -> list[Manifest]:
    """The PodMonitors of the chart."""
    on = "--set=metrics.agentPodMonitor.enabled=true,metrics.podMonitor.enabled=true"
    chart = str(install.REPOSITORY / "charts" / install.RELEASE)
    text = install.Client(cluster=cluster).helm(
        "template", install.RELEASE, chart, "--namespace", install.NAMESPACE, on
    )
    return [made for made in yaml.safe_load_all(text) if made and made["kind"] == "PodMonitor"]


def key(series: str, suffix: str = "", **labels: str) -> str:
    """A series of one agent, by the name and the labels that Prometheus has, whichever pod tells it."""
    inner = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
    return f"{series}{suffix}{{{inner}}}"


def _targets(api: str, monitor: Manifest, pod: Manifest) -> Iterator[dict[str, Any]]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", ()):
            if port.get("name") == endpoint["port"]:
                path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port['containerPort']}/proxy{endpoint['path']}"
                labels = {"__metrics_path__": path, "namespace": namespace, "pod": name}
                yield {"targets": [api.removeprefix("http://")], "labels": labels}


def _configuration(monitors: Mapping[Path, Manifest], rules: Sequence[Path]) -> dict[str, Any]:
    """As the Prometheus operator makes it of PodMonitors: the namespace and the pod are labels; ``monitors`` by the file of their targets."""
    every = f"{SCRAPED_EVERY}s"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": monitor["metadata"]["name"],
                "honor_labels": monitor["spec"]["podMetricsEndpoints"][0].get("honorLabels", False),
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": every}],
            }
            for targets, monitor in monitors.items()
        ],
    }
