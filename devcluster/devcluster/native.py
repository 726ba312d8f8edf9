"""Our own cluster: nodes made of namespaces on this machine. Starting it twice is fine, and so is a start that was cut short."""

import contextlib
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from devcluster import (
    addons,
    addresses,
    cgroups,
    components,
    image_store,
    kubeconfig,
    namespaces,
    network,
    packages,
    state,
)
from devcluster.api import Api, wait_until
from devcluster.certificates import Authority, Leaf, Pair, new_signing_keys
from devcluster.control_plane import FRONT_PROXY, ControlPlane
from devcluster.errors import ClusterError
from devcluster.image_store import Archive
from devcluster.locks import only_one
from devcluster.namespaces import Inside
from devcluster.node import Node
from devcluster.progress import Progress
from devcluster.settings import Settings

CONTROLLER_SPEED = (
    "--horizontal-pod-autoscaler-sync-period=5s",
    "--horizontal-pod-autoscaler-downscale-stabilization=20s",
    "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
    "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
)
"""A demo's autoscaler must not take minutes."""


class NativeCluster:
    """One named cluster on this machine."""

    def __init__(self, *, settings: Settings, name: str, progress: Progress) -> None:
        self._settings = settings
        self._progress = progress
        self.name = name
        self.run = settings.run(name)

    @property
    def kubeconfig(self) -> Path:
        return self.run / "admin.conf"

    @property
    def services_reachable(self) -> bool:
        """Pods and Services have routes on the host."""
        return True

    def kubectl(self) -> Path:
        return components.built(self._settings, progress=self._progress).directory / "kubectl"

    def helm(self) -> Path:
        return components.built(self._settings, progress=self._progress).directory / "helm"

    def image_name(self, name: str) -> str:
        """What pods call an image of ours: as it is built."""
        return name

    def up(self, *, nodes: int = 1, images: Sequence[Archive] = (), wait_for_metrics: bool = True) -> None:
        """Bring it up with these image archives loaded, or use what is up. Raises ClusterError with what to do."""
        self._needs_root()
        packages.ensure(packages.NODE, progress=self._progress)
        built = components.built(self._settings, progress=self._progress)
        with self._alone():
            known = state.read(self.run)
            start = state.decide(known, living=len(self._inits()), traces=self.run.exists())
            if start is state.Start.REUSE and known is not None:
                self._reuse(known, built, nodes=nodes, images=images)
            else:
                if start is state.Start.CLEAN:
                    self._progress.step("cleaning what an earlier start has left")
                    self._clean()
                try:
                    self._start(built, nodes=nodes, images=images)
                except BaseException:
                    self._keep_logs()
                    self._clean()
                    raise
        api = self.api()
        if wait_for_metrics:
            wait_until("metrics-server", lambda: addons.ready(api, "metrics-server"), timeout=120)
            self._progress.step("metrics-server is ready")

    def down(self) -> None:
        """Remove every process, mount, interface, cgroup and file of it, also of one that never came up. Raises ClusterError."""
        self._needs_root()
        with self._alone():
            if not self.run.exists() and not self._inits():
                self._progress.step(f"no cluster {self.name} is up")
                return
            self._clean()
        self._progress.step(f"cluster {self.name} is down")

    def load_images(self, archives: Sequence[Archive]) -> None:
        """Import image archives into every node."""
        self._needs_root()
        for node in self._nodes():
            image_store.load(self._inside(node), archives)

    def status(self) -> str:
        """One line for each node and program."""
        known = state.read(self.run)
        if known is None or not self._inits():
            return f"cluster {self.name} is not up"
        lines = [
            f"cluster {self.name} at {self._plane(known.plan).server}"
            + ("" if known.complete else ", cut short: `dc up` cleans it")
        ]
        for node in self._nodes():
            found = namespaces.inits(node.directory)
            inside = Inside(init=found[0]) if found else None
            programs = sorted(path.stem for path in node.directory.glob("*.pid"))
            dead = [
                name for name in programs if inside is None or inside.running(name, directory=node.directory) is None
            ]
            lines.append(
                f"  {node.name} {node.address}: "
                + (f"not running: {', '.join(dead)}" if dead else f"{len(programs)} programs run")
            )
        return "\n".join(lines)

    def logs(self, component: str | None) -> list[Path]:
        """The log files, of one component or all."""
        directory = self.run / "log"
        if not directory.exists():
            directory = self._settings.cache / "last-logs" / self.name
        return sorted(directory.glob(f"{component or '*'}-*.log"))

    def api(self) -> Api:
        """Requests as the admin."""
        known = state.read(self.run)
        if known is None:
            raise ClusterError(f"cluster {self.name} is not up: `devcluster/dc up`")
        plane = self._plane(known.plan)
        admin = Pair(certificate=plane.pki / "admin.crt", key=plane.pki / "admin.key")
        return Api(server=plane.server, authority=plane.authority.pair.certificate, pair=admin)

    def _start(self, built: components.Components, *, nodes: int, images: Sequence[Archive]) -> None:
        step = self._progress.step
        with only_one(self._settings.runs / "plan.lock", waiting=lambda: None):
            known = state.State(index=self._free_plan().index, nodes=nodes, complete=False)
            state.write(self.run, known)
        (self.run / "log").mkdir()
        plane = self._plane(known.plan)
        members = [self._node(known.plan, number, built.binary) for number in range(nodes)]
        self._certify(plane, members)
        insides: list[Inside] = []
        for node in members:
            insides.append(self._make_node(node, built, first=insides[0] if insides else None))
        step(f"{nodes} node{'s' if nodes > 1 else ''}: certificates, namespaces and network are made")
        self._spawn_control_plane(plane, insides[0])
        archives = [Archive(path=self._pause_image(built)), *images]
        for node, inside in zip(members, insides, strict=True):
            image_store.start(node, inside, archives=archives, stores=self._settings.cache / "image-stores")
        step("containerd is up")
        api = self.api()
        wait_until("kube-apiserver", lambda: api.found("/readyz"), timeout=180)
        step(f"the API server answers at {plane.server}")
        self._spawn_rest(plane, members, insides)
        self._kubectl(built, "apply", "-f", "-", stdin=addons.manifests(built.binary, dns=known.plan.dns))
        for node in members:
            wait_until(node.name, lambda node=node: addons.node_ready(api, node.name), timeout=120)
        step("nodes are ready")
        wait_until("CoreDNS", lambda: addons.ready(api, "coredns"), timeout=120)
        step("cluster DNS is ready")
        state.write(self.run, replace(known, complete=True))

    def _reuse(
        self, known: state.State, built: components.Components, *, nodes: int, images: Sequence[Archive]
    ) -> None:
        if nodes > known.nodes:
            raise ClusterError(
                f"cluster {self.name} is up with {known.nodes} node(s), {nodes} are asked for: `devcluster/dc down` first"
            )
        plane, members = self._plane(known.plan), self._nodes(built.binary)
        insides = [self._inside(node) for node in members]
        for node, inside in zip(members, insides, strict=True):
            if inside.running("containerd", directory=node.directory) is None:
                image_store.start(node, inside, archives=(), stores=self._settings.cache / "image-stores")
        self._spawn_control_plane(plane, insides[0])
        api = self.api()
        wait_until("kube-apiserver", lambda: api.found("/readyz"), timeout=180)
        self._spawn_rest(plane, members, insides)
        if images:
            self.load_images(images)
        self._progress.step(f"cluster {self.name} is up at {plane.server}")

    def _make_node(self, node: Node, built: components.Components, *, first: Inside | None) -> Inside:
        node.directory.mkdir()
        for path, text in node.files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        cgroups.create(node.cgroup)
        inside = namespaces.create(built.pause, mark=node.directory, hostname=node.name)
        if first is None:
            network.connect_first(node.plan, inside)
        else:
            network.connect_further(node.plan, node.number, first=first, inside=inside)
        return inside

    def _certify(self, plane: ControlPlane, members: Sequence[Node]) -> None:
        front = Authority(directory=plane.pki, name="front-proxy-ca")
        users = {
            "kube-scheduler": Leaf(name="kube-scheduler", common_name="system:kube-scheduler"),
            "kube-proxy": Leaf(name="kube-proxy", common_name="system:kube-proxy"),
            **{node.name: node.leaf() for node in members},
        }
        plane.authority.create()
        front.create()
        new_signing_keys(plane.pki)
        plane.authority.issue_all([*plane.leaves(), *users.values()])
        front.issue(Leaf(name="front-proxy", common_name=FRONT_PROXY))
        for user in ("admin", "kube-controller-manager", *users):
            path = self.kubeconfig if user == "admin" else plane.pki / f"{user}.conf"
            pair = Pair(certificate=plane.pki / f"{user}.crt", key=plane.pki / f"{user}.key")
            authority = plane.authority.pair.certificate
            text = kubeconfig.render(
                cluster=f"agentservice-{self.name}", user=user, server=plane.server, authority=authority, pair=pair
            )
            kubeconfig.write(path, text)

    def _spawn_control_plane(self, plane: ControlPlane, inside: Inside) -> None:
        self._spawn(0, inside, "etcd", plane.etcd())
        self._spawn(0, inside, "kube-apiserver", [*plane.apiserver(), *plane.aggregation()])

    def _spawn_rest(self, plane: ControlPlane, members: Sequence[Node], insides: Sequence[Inside]) -> None:
        self._spawn(0, insides[0], "kube-controller-manager", plane.controller_manager(further=CONTROLLER_SPEED))
        self._spawn(0, insides[0], "kube-scheduler", plane.scheduler())
        for node, inside in zip(members, insides, strict=True):
            for program, command in node.programs().items():
                self._spawn(node.number, inside, program, command)

    def _spawn(self, number: int, inside: Inside, program: str, command: Sequence[str]) -> None:
        """Start a program unless it runs."""
        directory = self.run / f"node-{number}"
        if inside.running(program, directory=directory) is None:
            inside.spawn(program, command, directory=directory, log=self.run / "log" / f"{program}-{number}.log")

    def _clean(self) -> None:
        """End, unmount and remove everything, in the order in which nothing can come back."""
        namespaces.kill(self._inits())
        known = state.read(self.run)
        if known is not None:
            network.disconnect(known.plan)
            cgroups.remove(known.plan.name)
        shutil.rmtree(self.run, ignore_errors=True)
        if self.run.exists():
            raise ClusterError(
                f"{self.run} cannot be removed: `findmnt -R {self.run}` shows a mount that is in the way"
            )

    def _keep_logs(self) -> None:
        kept = self._settings.cache / "last-logs" / self.name
        with contextlib.suppress(OSError):
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.run / "log", kept)

    def _free_plan(self) -> addresses.Plan:
        others = [known.index for run in self._settings.runs.glob("*") if (known := state.read(run)) is not None]
        traces = [index for index in range(addresses.PLANS) if self._traces(addresses.Plan(index=index))]
        return addresses.choose(taken=[*others, *traces], routes=network.host_routes())

    def _traces(self, plan: addresses.Plan) -> bool:
        """Somebody else's cluster, from another cache directory."""
        return any((hierarchy / plan.name).exists() for hierarchy in cgroups.hierarchies())

    def _plane(self, plan: addresses.Plan) -> ControlPlane:
        return ControlPlane(
            binary=self._binary_in_use(),
            pki=self.run / "pki",
            data=self.run / "node-0",
            address=plan.node(0),
            bind="0.0.0.0",  # inside the node's own network namespace
            port=6443,
            etcd_port=2379,
            etcd_peer_port=2380,
            services=plan.services,
            service_address=plan.kubernetes,
            admission=("NodeRestriction",),
        )

    def _binary_in_use(self) -> Path:
        found = components.cached(self._settings, progress=self._progress)
        return found.binary if found else Path("devcluster")

    def _node(self, plan: addresses.Plan, number: int, binary: Path) -> Node:
        return Node(number=number, plan=plan, binary=binary, run=self.run)

    def _nodes(self, binary: Path = Path("devcluster")) -> list[Node]:
        known = state.read(self.run)
        if known is None:
            raise ClusterError(f"cluster {self.name} is not up: `devcluster/dc up`")
        return [self._node(known.plan, number, binary) for number in range(known.nodes)]

    def _inside(self, node: Node) -> Inside:
        found = namespaces.inits(node.directory)
        if not found:
            raise ClusterError(f"{node.name} of cluster {self.name} is not running: `devcluster/dc up`")
        return Inside(init=found[0])

    def _inits(self) -> list[int]:
        return namespaces.inits_under(self.run)

    def _pause_image(self, built: components.Components) -> Path:
        archive = built.directory / "pause.tar"
        if not archive.exists():
            image_store.pause_archive(built.pause, archive)
        return archive

    def _kubectl(self, built: components.Components, *arguments: str, stdin: str) -> None:
        namespaces.run([str(built.directory / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments], stdin=stdin)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        waiting = f"another dc is at work on cluster {self.name}: waiting for it"
        with only_one(self._settings.runs / f"{self.name}.lock", waiting=lambda: self._progress.step(waiting)):
            yield

    def _needs_root(self) -> None:
        if os.geteuid() != 0:
            raise ClusterError(
                f"needs root: a node is made of namespaces, mounts and cgroups. Run it with sudo (cluster {self.name})"
            )
