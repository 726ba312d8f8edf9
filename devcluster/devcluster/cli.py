"""The command line of the dev cluster."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from devcluster import cluster as clusters
from devcluster import components, demo, images, install, keda, tools
from devcluster.errors import ClusterError
from devcluster.image_store import Archive
from devcluster.progress import Progress
from devcluster.settings import REPOSITORY, Settings, read_settings
from devcluster.standalone import StandaloneControlPlane

PASSED_ON = ("kubectl", "helm")
STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Ends with 1 for what a person can mend, with 130 after Ctrl-C."""
    own, passed_on = split(list(sys.argv[1:] if arguments is None else arguments))
    options = _parser().parse_args(own)
    options.passed_on = passed_on
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, _interrupt)
    try:
        options.run(options, read_settings(), Progress())
    except ClusterError as error:
        print(f"dc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dc: stopped", file=sys.stderr)
        return STOPPED
    return 0


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those of kubectl or helm, which are theirs to read."""
    for place, word in enumerate(arguments):
        if word in PASSED_ON and not (place and arguments[place - 1] == "--name"):
            return arguments[: place + 1], arguments[place + 1 :]
    return arguments, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dc", description="A real Kubernetes on this machine, for demo and tests.")
    parser.add_argument(
        "--name", help="several clusters may be up side by side (default: $AGENTSERVICE_CLUSTER_NAME, else default)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring the cluster up, or use it when it is")
    up.add_argument("--nodes", type=int, default=1, choices=range(1, 10), metavar="N")
    up.add_argument("--images", action="store_true", help="build this repository's images and load them")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="remove every process, mount, interface and cgroup of it").set_defaults(run=_down)
    commands.add_parser("status", help="what runs").set_defaults(run=_status)
    load = commands.add_parser(
        "load-image", help="load image archives (docker save, buildah push docker-archive:) into every node"
    )
    load.add_argument("archive", type=Path, nargs="+")
    load.set_defaults(run=_load_image)
    logs = commands.add_parser("logs", help="the components' logs, also of a start that failed")
    logs.add_argument("component", nargs="?", help="kube-apiserver, kubelet, containerd, ...")
    logs.set_defaults(run=_logs)
    commands.add_parser("kubeconfig", help="print the kubeconfig's path").set_defaults(run=_kubeconfig)
    for program in PASSED_ON:
        commands.add_parser(program, help=f"run {program} on the cluster, whatever KUBECONFIG says").set_defaults(
            run=_pass_on, program=program
        )
    commands.add_parser("build", help="build Kubernetes (8 minutes, once) and print its directory").set_defaults(
        run=_build
    )
    commands.add_parser("images", help="build this repository's images").set_defaults(run=_images)
    commands.add_parser("install", help="install the operator's chart with these images").set_defaults(run=_install)
    commands.add_parser("install-keda", help="build KEDA (15 minutes, once) and install it").set_defaults(
        run=_install_keda
    )
    commands.add_parser(
        "control-plane", help="etcd, API server, controller manager alone, in the foreground; no root"
    ).set_defaults(run=_control_plane)
    commands.add_parser("demo", help="from nothing to an answering agent").set_defaults(run=_demo)
    commands.add_parser("uv", help="print the path of a uv, installed when there is none").set_defaults(run=_uv)
    return parser


def _up(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    cluster = _cluster(options, settings, progress)
    archives = install.archives(demo.prepare(settings, examples=True, progress=progress)) if options.images else []
    cluster.up(nodes=options.nodes, images=archives)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    _cluster(options, settings, progress).down()


def _status(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    print(_cluster(options, settings, progress).status())


def _load_image(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    for path in options.archive:
        if not path.is_file():
            raise ClusterError(
                f"{path} is not an archive: write one with `docker save -o FILE IMAGE` or `buildah push IMAGE docker-archive:FILE:IMAGE`"
            )
    _cluster(options, settings, progress).load_images([Archive(path=path.resolve()) for path in options.archive])
    progress.step("loaded")


def _logs(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    files = _cluster(options, settings, progress).logs(options.component)
    if not files:
        raise ClusterError(f"no logs of {options.component or 'any component'}: `dc status` names what runs")
    for path in files:
        print(f"==> {path}")
        sys.stdout.write(path.read_text(errors="replace"))


def _kubeconfig(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    print(_existing(_cluster(options, settings, progress)))


def _pass_on(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    cluster = _cluster(options, settings, progress)
    kubeconfig = _existing(cluster)
    program = cluster.kubectl() if options.program == "kubectl" else cluster.helm()
    os.execve(program, [options.program, *options.passed_on], {**os.environ, "KUBECONFIG": str(kubeconfig)})


def _build(_: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    print(components.built(settings, progress=progress).directory)


def _images(_: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    for image in images.built(settings, progress=progress).all:
        print(image.name, *image.aliases, image.archive)


def _install(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    cluster = _cluster(options, settings, progress)
    built = demo.prepare(settings, examples=True, progress=progress)
    cluster.load_images(install.archives(built))
    install.deliver(settings, cluster, built, progress=progress)
    install.operator(cluster, built, wait=True)
    progress.step("the operator is installed")


def _install_keda(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    cluster = _cluster(options, settings, progress)
    _existing(cluster)
    keda.install(settings, cluster, progress=progress)


def _control_plane(_: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    built = components.built(settings, progress=progress)
    definitions = sorted((REPOSITORY / "crds").glob("*.yaml"))
    with StandaloneControlPlane(binary=built.binary, definitions=definitions) as plane:
        progress.step(f"the control plane answers at {plane.server}; Ctrl-C ends it")
        print(f"export KUBECONFIG={plane.kubeconfig}", flush=True)
        threading.Event().wait()


def _demo(options: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    demo.run(settings, name=options.name or settings.name, progress=progress)


def _uv(_: argparse.Namespace, settings: Settings, progress: Progress) -> None:
    print(tools.uv(settings, progress=progress))


def _cluster(options: argparse.Namespace, settings: Settings, progress: Progress) -> clusters.Cluster:
    return clusters.choose(settings, name=options.name or settings.name, progress=progress)


def _existing(cluster: clusters.Cluster) -> Path:
    if not cluster.kubeconfig.exists():
        raise ClusterError("no cluster is up: `devcluster/dc up`")
    return cluster.kubeconfig


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
