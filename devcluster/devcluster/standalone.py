"""The control plane alone: a real API server for tests, without root, nodes or a fixed port.

Its processes get SIGKILL from the kernel when the thread that started them ends (PR_SET_PDEATHSIG), so nothing outlives a test
run, however it ends. Start it on a thread that lives as long as it is needed.
"""

import contextlib
import http.client
import json
import random
import shutil
import socket
import subprocess
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from devcluster import kubeconfig
from devcluster.api import Api, RefusedError, wait_until
from devcluster.certificates import Leaf, Pair, new_signing_keys
from devcluster.control_plane import ControlPlane
from devcluster.errors import ClusterError

PORTS = range(20000, 32000)
"""Below the ephemeral range, so that no outgoing connection of another program takes a port that was just found free."""
ATTEMPTS = 4
ADMISSION = ("OwnerReferencesPermissionEnforcement",)
"""Not on by default, but OpenShift has it on: an operator must be allowed to block its owner's deletion."""
AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
  - {level: None}
"""
"""Who wrote what, as the API server saw it: how a test counts the writes of one client among many."""


class StandaloneControlPlane:
    """etcd, kube-apiserver and kube-controller-manager on 127.0.0.1, as a context manager.

    Several run side by side. Deployments and ReplicaSets are worked on, the garbage collector runs; pods stay Pending. Custom
    resource definitions given here are there before the controller manager starts: later ones it notices within 30 s only.
    Without `controllers` there are etcd and the API server alone: nothing but clients writes, and nothing is collected.
    """

    def __init__(
        self,
        *,
        binary: Path,
        definitions: Sequence[Path] = (),
        directory: Path | None = None,
        controllers: bool = True,
    ) -> None:
        """`binary` is the built multi-call program. Without `directory` a temporary one is made."""
        self._binary = binary
        self._definitions = list(definitions)
        self._controllers = controllers
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="agentservice-control-plane-"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._plane = self._plan(self.directory)

    @property
    def server(self) -> str:
        """`https://127.0.0.1:PORT`."""
        return self._plane.server

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig (system:masters)."""
        return self.directory / "admin.conf"

    @property
    def certificate_authority(self) -> Path:
        return self._plane.authority.pair.certificate

    @property
    def admin(self) -> Pair:
        """The admin's client certificate and key."""
        return Pair(certificate=self._plane.pki / "admin.crt", key=self._plane.pki / "admin.key")

    @property
    def api(self) -> Api:
        """Requests as the admin."""
        return Api(server=self.server, authority=self.certificate_authority, pair=self.admin)

    def user(self, name: str, *, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for any other user, who has the rights that RBAC gives to the name and the groups."""
        leaf = Leaf(name=f"user-{name.replace(':', '-')}", common_name=name, organizations=tuple(groups), dns=("user",))
        pair = self._plane.authority.issue(leaf)
        return self._write_kubeconfig(self.directory / f"{leaf.name}.conf", user=name, pair=pair)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the admin. Raises ClusterError with its error output unless `check` is False."""
        done = subprocess.run(
            [str(self._binary), "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    @property
    def audit_log(self) -> Path:
        """One audit.k8s.io/v1 Event in JSON per line, for each request that writes."""
        return self.directory / "log" / "audit.log"

    def pid(self, program: str) -> int:
        """The process of a program that runs."""
        return self._processes[program].pid

    def log(self, program: str) -> str:
        """What `etcd`, `kube-apiserver` or `kube-controller-manager` wrote."""
        return (self.directory / "log" / f"{program}.log").read_text(errors="replace")

    def start(self) -> None:
        """Bring it up, with other ports when one was taken in between. Raises ClusterError when it does not come up."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start()
                return
            except _PortTakenError:
                self._kill()
                if attempt == ATTEMPTS:
                    raise
                shutil.rmtree(self.directory)
                self.directory.mkdir()
                self._plane = self._plan(self.directory)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End the processes and remove the temporary directory. May be called twice."""
        self._kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop_program(self, program: str) -> None:
        """Kill one program, to see what others do without it."""
        process = self._processes.pop(program)
        process.kill()
        process.wait()

    def start_program(self, program: str) -> None:
        """Start one program again after `stop_program`, at the same address; returns at once."""
        commands = {
            "etcd": self._plane.etcd,
            "kube-apiserver": lambda: self._plane.apiserver(further=self._audit()),
            "kube-controller-manager": lambda: self._plane.controller_manager(further=["--secure-port=0"]),
        }
        self._spawn(program, commands[program]())

    def compact(self) -> None:
        """Forget etcd's history up to now: whoever wants to go on from an older state is answered 410 Gone."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._plane.etcd_port, timeout=10)) as etcd:
            etcd.request("POST", "/v3/kv/range", '{"key": "AA=="}')
            revision = json.loads(etcd.getresponse().read())["header"]["revision"]
            etcd.request("POST", "/v3/kv/compaction", json.dumps({"revision": revision, "physical": True}))
            answer = etcd.getresponse()
            if answer.status != 200:
                raise ClusterError(f"etcd refuses the compaction: {answer.read().decode()[:500]}")

    def wait_ready(self) -> None:
        """Until the API server says that it is ready."""
        wait_until("kube-apiserver", lambda: self.api.found("/readyz"), timeout=90, watch=self._watch)

    def __enter__(self) -> "StandaloneControlPlane":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()

    def _plan(self, directory: Path) -> ControlPlane:
        port, etcd, peer = free_ports(3)
        return ControlPlane(
            binary=self._binary,
            pki=directory / "pki",
            data=directory,
            address="127.0.0.1",
            bind="127.0.0.1",
            port=port,
            etcd_port=etcd,
            etcd_peer_port=peer,
            services="10.96.0.0/16",
            service_address="10.96.0.1",
            admission=ADMISSION,
            loopback=True,
        )

    def _audit(self) -> list[str]:
        policy = self.directory / "audit-policy.yaml"
        policy.write_text(AUDIT_POLICY)
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.audit_log}"]

    def _start(self) -> None:
        plane = self._plane
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        self.start_program("etcd")
        plane.authority.create()
        new_signing_keys(plane.pki)
        plane.authority.issue_all(plane.leaves())
        self.start_program("kube-apiserver")
        self._write_kubeconfig(self.kubeconfig, user="admin", pair=self.admin)
        manager = Pair(
            certificate=plane.pki / "kube-controller-manager.crt", key=plane.pki / "kube-controller-manager.key"
        )
        self._write_kubeconfig(plane.pki / "kube-controller-manager.conf", user="kube-controller-manager", pair=manager)
        self.wait_ready()
        if self._definitions:
            files = [f"--filename={path}" for path in self._definitions]
            self.kubectl("apply", "--server-side", *files)
            # Not `kubectl wait`: it fails on a definition that has no conditions yet.
            wait_until("the definitions", self._established, timeout=60, watch=self._watch)
        if not self._controllers:
            return
        self.start_program("kube-controller-manager")
        # made by a controller, so the controllers run
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_until("kube-controller-manager", lambda: self.api.found(account), timeout=60, watch=self._watch)

    def _established(self) -> bool:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        found: list[dict[str, Any]] = self.api.request("GET", path)["items"]
        return len(found) >= len(self._definitions) and all(
            any(
                condition["type"] == "Established" and condition["status"] == "True"
                for condition in cast("list[dict[str, str]]", (live.get("status") or {}).get("conditions") or [])
            )
            for live in found
        )

    def _write_kubeconfig(self, path: Path, *, user: str, pair: Pair) -> Path:
        text = kubeconfig.render(
            cluster="agentservice-control-plane",
            user=user,
            server=self.server,
            authority=self.certificate_authority,
            pair=pair,
        )
        return kubeconfig.write(path, text)

    def _spawn(self, program: str, command: Sequence[str]) -> None:
        with (self.directory / "log" / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C in the terminal is for the tests, which then stop it in order
            )

    def _watch(self) -> None:
        for program, process in self._processes.items():
            if process.poll() is not None:
                last = self.log(program).strip().splitlines()[-5:]
                if any("address already in use" in line for line in last):
                    raise _PortTakenError(f"{program}: a port is taken")
                raise ClusterError(f"{program} ended with status {process.returncode}:\n" + "\n".join(last))

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()


class _PortTakenError(ClusterError):
    pass


def new_namespace(api: Api, prefix: str, *, labels: dict[str, str] | None = None) -> str:
    """Create a namespace with a name of its own and return the name."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": f"{prefix}-", "labels": labels or {}}}
    return str(api.request("POST", "/api/v1/namespaces", body)["metadata"]["name"])


def delete_namespace(api: Api, name: str) -> None:
    """Ask for the namespace's end and do not wait for it."""
    try:
        api.request("DELETE", f"/api/v1/namespaces/{name}")
    except RefusedError as refused:
        if refused.status != 404:
            raise


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; the caller must be ready to try again."""
    found: list[int] = []
    source = random.SystemRandom()
    for _ in range(1000):
        port = source.choice(PORTS)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")
