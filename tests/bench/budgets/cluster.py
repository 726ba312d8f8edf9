"""Decides how accounts come about in a cluster: by an AgentService and the operator, on a real API server without nodes.

The pods of an account are real objects that nobody runs; the workers stand in for what would run in them. They carry
their pods' UIDs and the token of their ServiceAccount, so they can do what a pod can and no more.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.apiserver.operator_process import OperatorProcess, eventually, operators
from tests.bench.budgets import load
from tests.bench.budgets.ledgers import Access

from agentservice_api.budget import Amount, LedgerSpec, LedgerStatus, usd_string
from devcluster import components
from devcluster.errors import ClusterError
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, read_settings
from devcluster.standalone import StandaloneControlPlane, new_namespace

GROUP = "/apis/agentservice.dev/v1alpha1/namespaces"
TOKEN_SECONDS = 86_400


class Cluster:
    """A context manager: API server, controllers, operator, and one namespace."""

    def __enter__(self) -> Cluster:
        built = components.cached(read_settings(), progress=Progress())
        if built is None:
            raise ClusterError("the API server is not built: run `devcluster/dc build` once")
        self._things = contextlib.ExitStack()
        definitions = sorted((REPOSITORY / "crds").glob("*.yaml"))
        self.plane = self._things.enter_context(StandaloneControlPlane(binary=built.binary, definitions=definitions))
        self._directory = Path(self._things.enter_context(tempfile.TemporaryDirectory()))
        make = self._things.enter_context(operators(self.plane, self._directory, lease="bench"))
        self.operator: OperatorProcess = make().start()
        self.namespace = new_namespace(self.plane.api, "bench")
        return self

    def __exit__(self, *_: object) -> None:
        if sys.exc_info()[0] is not None:
            sys.stderr.write(self.operator.log[-1500:])
        self._things.close()

    def path(self, plural: str, name: str) -> str:
        return f"{GROUP}/{self.namespace}/{plural}/{name}"

    def open_account(
        self, name: str, spec: LedgerSpec, *, pods: int, ledger: str, without_windows: bool = False
    ) -> Access:
        """Make an AgentService with so many pods, wait for its ledger and return what a worker needs to use it.

        ``without_windows`` leaves it to the workers to open the first day, which may be a short one.
        """
        if without_windows:
            self._seed(name, spec)
        self.plane.api.request(
            "POST", f"{GROUP}/{self.namespace}/agentservices", self.manifest(name, spec, pods=pods, ledger=ledger)
        )
        eventually(f"{name} has a ledger", lambda: self.status(name).seeded, seconds=60)
        account = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{name}"
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        answer = eventually(
            "its account has a token", lambda: self.plane.api.request("POST", f"{account}/token", asked), seconds=30
        )
        token = self._directory / f"{name}.token"
        token.write_text(answer["status"]["token"])
        return Access(
            server=self.plane.server, authority=self.plane.certificate_authority, token=token, namespace=self.namespace
        )

    def _seed(self, name: str, spec: LedgerSpec) -> None:
        """Make the ledger before the operator does, which finds it and leaves the accounts alone."""
        collection = self.path("agentledgers", "").removesuffix("/")
        ledger = {
            "apiVersion": "agentservice.dev/v1alpha1",
            "kind": "AgentLedger",
            "metadata": {"name": name},
            "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        self.plane.api.request("POST", collection, ledger)
        self.plane.api.request(
            "PATCH",
            f"{collection}/{name}/status",
            {"status": {"seeded": True, "windows": []}},
            content_type="application/merge-patch+json",
        )

    def manifest(self, name: str, spec: LedgerSpec, *, pods: int, ledger: str) -> dict[str, Any]:
        limit = spec.limit("daily")
        budget: dict[str, Any] = {
            "timeZone": spec.time_zone,
            "daily": {"tokens": limit.tokens, "costUSD": usd_string(limit.nano_usd)},
            "ledger": {"type": ledger},
        }
        redis = {"redis": {"urlFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}}
        return {
            "apiVersion": "agentservice.dev/v1alpha1",
            "kind": "AgentService",
            "metadata": {"name": name},
            "spec": {
                "agent": {"instructions": "Answer briefly."},
                "model": {"name": load.MODEL_STRING, "pricing": load.PRICING},
                "replicas": pods,
                "budget": budget,
                **(redis if ledger == "Redis" else {}),
            },
        }

    def pod_uids(self, name: str, *, count: int) -> list[str]:
        """Wait until the account has so many pods, and return who they are."""
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=agentservice.dev/name={name}"

        def found() -> list[str]:
            pods = self.plane.api.request("GET", path)["items"]
            return [pod["metadata"]["uid"] for pod in pods] if len(pods) == count else []

        return eventually(f"{name} has {count} pods", found, seconds=60)

    def delete_pod(self, uid: str) -> None:
        """Take a pod away, as the kubelet does when it has ended."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        name = next(
            pod["metadata"]["name"]
            for pod in self.plane.api.request("GET", pods)["items"]
            if pod["metadata"]["uid"] == uid
        )
        self.plane.api.request("DELETE", f"{pods}/{name}", {"gracePeriodSeconds": 0})

    def status(self, name: str) -> LedgerStatus:
        """The accounts as the API server has them."""
        live = self.plane.api.request("GET", self.path("agentledgers", name))
        return LedgerStatus.model_validate(live.get("status") or {})

    def booked(self, name: str) -> Amount:
        """What of the current day cannot be spent again."""
        day = self.status(name).current("daily")
        return day.authorized + day.overrun if day is not None else Amount()

    def days(self, name: str) -> Mapping[str, Amount]:
        """What was billed on each day, by the day's start; closed days too."""
        status = self.status(name)
        found = {window.start: window.settled + window.overrun for window in status.windows if window.name == "daily"}
        found |= {book.start: Amount(book.tokens, book.nano_usd) for book in status.closed if book.name == "daily"}
        return found

    def close_account(self, name: str) -> None:
        """Delete the AgentService, so that the next row is not slowed by it; the ledger stays."""
        self.plane.api.request("DELETE", self.path("agentservices", name))


@contextlib.contextmanager
def api_server_away(cluster: Cluster) -> Iterator[None]:
    """Without the API server for as long as the body lasts."""
    cluster.plane.stop_program("kube-apiserver")
    try:
        yield
    finally:
        cluster.plane.start_program("kube-apiserver")
        cluster.plane.wait_ready()
        # an operator that cannot renew its lease ends, and the kubelet would start it again
        cluster.operator.start_again_if_it_lost_its_lease()
