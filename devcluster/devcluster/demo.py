"""`make demo`: from nothing to an answering agent, with everything overlapped that can be."""

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from devcluster import cluster as clusters
from devcluster import components, images, install, packages, tools
from devcluster.builder import docker_answers
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from devcluster.images import Built
from devcluster.install import Client
from devcluster.progress import Moving, Progress
from devcluster.settings import REPOSITORY, Provider, Settings

QUESTION = "What are you?"
LAUNCHER = "devcluster/dc"


def run(settings: Settings, *, name: str, progress: Progress) -> None:
    """Bring everything up and ask one question. May be run again at any time, whatever happened before. Raises ClusterError."""
    cluster = clusters.choose(settings, name=name, progress=progress)
    built = prepare(settings, examples=False, progress=progress)
    cluster.up(images=install.archives(built), wait_for_metrics=False)
    install.deliver(settings, cluster, built, progress=progress)
    install.operator(cluster, built, wait=False)
    progress.step("the operator is installed")
    client = Client(cluster=cluster)
    client.kubectl(
        "apply",
        "--namespace=default",
        "--server-side",
        "--force-conflicts",
        "-f",
        str(REPOSITORY / "examples" / "hello.yaml"),
    )
    progress.step("examples/hello.yaml is applied: waiting until it is Ready")
    _wait_ready(client, progress=progress)
    print()
    print(f"$ {LAUNCHER} kubectl get ags")
    print(client.kubectl("get", "ags", "--namespace=default").rstrip())
    print()
    print(_ask(cluster, client))
    print()
    print(_next_steps(name), flush=True)


def prepare(settings: Settings, *, examples: bool, progress: Progress) -> Built:
    """Kubernetes and the images, built side by side when they are not in the cache."""
    result: list[Built] = []
    jobs: list[Callable[[], object]] = [
        lambda: result.append(images.built(settings, examples=examples, progress=progress))
    ]
    if _native(settings):
        # one after the other, because apt-get allows no second one beside it
        packages.ensure([*packages.NODE, *packages.IMAGES], progress=progress)
        tools.go(settings, progress=progress)
        jobs.append(lambda: components.built(settings, progress=progress))
    side_by_side(jobs)
    return result[0]


def side_by_side(jobs: list[Callable[[], object]]) -> None:
    """Run all at once and raise the first failure. A person's Ctrl-C ends the waiting: threads do not outlive the process."""
    failures: list[BaseException] = []

    def guarded(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not failures:
        time.sleep(0.05)
    if failures:
        raise failures[0]


def _native(settings: Settings) -> bool:
    return settings.provider is Provider.NATIVE or (settings.provider is None and not docker_answers())


def _wait_ready(client: Client, *, progress: Progress, timeout: float = 180) -> None:
    deadline = time.monotonic() + timeout
    with Moving(progress, "waiting for ags/hello") as moving:
        while True:
            found: dict[str, Any] = json.loads(client.kubectl("get", "ags/hello", "--namespace=default", "-o", "json"))
            conditions = {condition["type"]: condition for condition in found.get("status", {}).get("conditions", [])}
            ready = conditions.get("Ready", {})
            if ready.get("status") == "True" and ready.get("observedGeneration") == found["metadata"]["generation"]:
                return
            reason = f"{ready.get('reason', 'not seen by the operator yet')}: {ready.get('message', '')}".rstrip(": ")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"ags/hello is not Ready after {timeout:.0f} s: {reason}. `{LAUNCHER} kubectl get pods -A` shows where it hangs"
                )
            moving.show(f"waiting for ags/hello ({reason})")
            time.sleep(0.3)


def _ask(cluster: Cluster, client: Client) -> str:
    body = json.dumps({"input": QUESTION})
    if cluster.services_reachable:
        service = json.loads(client.kubectl("get", "service/hello", "--namespace=default", "-o", "json"))["spec"]
        url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1/run"
        return f"$ curl {url} -H 'Content-Type: application/json' -d '{body}'\n{_post(url, body)}"
    forward = [str(cluster.kubectl()), "port-forward", "--namespace=default", "service/hello", ":80"]
    with subprocess.Popen(forward, env=client.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline() if process.stdout else ""
            port = said.split("127.0.0.1:")[-1].split(" ")[0]
            url = f"http://127.0.0.1:{port}/v1/run"
            return f"$ {LAUNCHER} kubectl port-forward service/hello {port}:80 &\n$ curl {url} -H 'Content-Type: application/json' -d '{body}'\n{_post(url, body)}"
        finally:
            process.terminate()


def _post(url: str, body: str, *, tries: int = 20) -> str:
    """The answer, by curl where it is installed. The Service's first packets may come before kube-proxy knows the pod."""
    trouble = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(0.3)
        if shutil.which("curl"):
            command = [
                "curl",
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                url,
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout.strip()
            trouble = done.stderr.strip()
        else:
            request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.read().decode().strip()
            except OSError as error:
                trouble = str(error)
    raise ClusterError(f"no answer from {url}: {trouble}")


def _next_steps(name: str) -> str:
    dc = LAUNCHER if name == "default" else f"{LAUNCHER} --name {name}"
    return f"""What to try next:
  {dc} kubectl explain ags.spec.model                    every field is documented
  {dc} kubectl scale ags/hello --replicas=2              and `kubectl get ags,pods`
  {dc} kubectl edit ags/hello                            change agent.instructions, watch it roll
  {dc} kubectl apply -k examples/model-server            a stand-in model server, for
  {dc} kubectl apply -f examples/support.yaml            typed input, typed answers
  make demo-down                                                   ends it all; the caches stay"""
