"""What runs on a node and how it is configured: pure text and commands, from the address plan and the directories."""

import json
from dataclasses import dataclass
from pathlib import Path

from devcluster.addresses import Plan
from devcluster.certificates import Leaf
from devcluster.control_plane import DOMAIN
from devcluster.packages import CNI_PLUGINS

PAUSE_IMAGE = "localhost/pause:dev"
SOCKET = "/run/containerd.sock"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: number 0 carries the control plane."""

    number: int
    plan: Plan
    binary: Path
    run: Path
    """The cluster's run directory."""

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def directory(self) -> Path:
        return self.run / self.name

    @property
    def address(self) -> str:
        return self.plan.node(self.number)

    @property
    def cgroup(self) -> str:
        return f"{self.plan.name}/{self.name}"

    def leaf(self) -> Leaf:
        """The kubelet's certificate: it serves with it and authenticates by it (NodeRestriction holds it to its node)."""
        return Leaf(
            name=self.name,
            common_name=f"system:node:{self.name}",
            organizations=("system:nodes",),
            addresses=(self.address, "127.0.0.1"),
        )

    def files(self) -> dict[Path, str]:
        """Every configuration file of the node."""
        here = self.directory
        return {
            here / "containerd.toml": self._containerd(),
            here / "cni" / "10-ptp.conflist": self._network(),
            here / "kubelet.json": json.dumps(self._kubelet(), indent=1),
            here / "kube-proxy.json": json.dumps(self._proxy(), indent=1),
            here / "resolv.conf": "",
        }

    def containerd(self) -> list[str]:
        return ["containerd", "--config", str(self.directory / "containerd.toml")]

    def programs(self) -> dict[str, list[str]]:
        """The Kubernetes programs of every node, by name."""
        here, pki = self.directory, self.run / "pki"
        return {
            "kubelet": [
                *(str(self.binary), "kubelet", f"--config={here}/kubelet.json", f"--kubeconfig={pki}/{self.name}.conf"),
                *(f"--hostname-override={self.name}", f"--node-ip={self.address}", f"--root-dir={here}/kubelet"),
            ],
            "kube-proxy": [str(self.binary), "kube-proxy", f"--config={here}/kube-proxy.json"],
            "netpol": [str(self.binary), "netpol", f"-kubeconfig={self.run}/admin.conf"],
        }

    def _containerd(self) -> str:
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""version = 2
root = "{self.directory}/containerd"
state = "/run/containerd-state"
[grpc]
  address = "{SOCKET}"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
[{cri}.containerd]
  snapshotter = "overlayfs"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.cni]
  bin_dir = "{CNI_PLUGINS}"
  conf_dir = "{self.directory}/cni"
"""

    def _network(self) -> str:
        # ptp routes every pod packet through the node, so Services and NetworkPolicies work without br_netfilter
        ranges = [[{"subnet": self.plan.pods_of(self.number)}]]
        ipam = {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        plugin = {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam}
        return json.dumps({"cniVersion": "0.4.0", "name": "devcluster", "plugins": [plugin]}, indent=1)

    def _kubelet(self) -> dict[str, object]:
        here, pki = self.directory, self.run / "pki"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/{self.name}.crt",
            "tlsPrivateKeyFile": f"{pki}/{self.name}.key",
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "resolvConf": f"{here}/resolv.conf",
            "clusterDNS": [self.plan.dns],
            "clusterDomain": DOMAIN,
            # a laptop's disk is often 90 % full, which is no reason to evict a demo
            "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 250,
            "podLogsDir": f"{here}/podlogs",
            "volumePluginDir": f"{here}/volume-plugins",
            "nodeStatusUpdateFrequency": "5s",
        }

    def _proxy(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": f"{self.run}/pki/kube-proxy.conf"},
            "mode": "nftables",
            "clusterCIDR": self.plan.pods,
            "hostnameOverride": self.name,
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0},
            "nftables": {"minSyncPeriod": "100ms"},
        }
