"""How the control plane's programs are called: pure, the same for a whole cluster and for the control plane alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.certificates import Authority, Leaf

FRONT_PROXY = "front-proxy-client"
DOMAIN = "cluster.local"


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """Addresses and directories of one control plane. The programs run on one host, so etcd needs no certificates."""

    binary: Path
    pki: Path
    data: Path
    address: str
    bind: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    services: str
    service_address: str
    admission: tuple[str, ...] = ()
    loopback: bool = False
    """True: nobody but this host asks, so the server is not published as an endpoint."""

    @property
    def server(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def authority(self) -> Authority:
        return Authority(directory=self.pki)

    def leaves(self) -> list[Leaf]:
        """The certificates of the control plane itself and of the admin."""
        inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
        return [
            Leaf(
                name="apiserver",
                common_name="kube-apiserver",
                dns=("localhost", *inside),
                addresses=("127.0.0.1", self.service_address, self.address),
            ),
            Leaf(name="admin", common_name="admin", organizations=("system:masters",)),
            Leaf(name="kube-controller-manager", common_name="system:kube-controller-manager"),
        ]

    def etcd(self) -> list[str]:
        """Without fsync: a cluster that lives for a test needs no protection from a power cut."""
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        return [
            *(str(self.binary), "etcd", f"--data-dir={self.data}/etcd"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ),
            *("--unsafe-no-fsync", "--log-level=warn"),
        ]

    def apiserver(self, *, further: Sequence[str] = ()) -> list[str]:
        """With its own front-proxy authority, which aggregated APIs (metrics.k8s.io) authenticate by."""
        pki = self.pki
        admission = [f"--enable-admission-plugins={','.join(self.admission)}"] if self.admission else []
        endpoint = ["--endpoint-reconciler-type=none"] if self.loopback else []
        return [
            *(str(self.binary), "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}"),
            *(f"--bind-address={self.bind}", f"--advertise-address={self.address}", f"--secure-port={self.port}"),
            *(f"--client-ca-file={pki}/ca.crt", f"--cert-dir={pki}"),
            *(f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"),
            *(f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key"),
            *(f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}", "--authorization-mode=Node,RBAC"),
            *(f"--service-cluster-ip-range={self.services}", "--allow-privileged", *admission, *endpoint),
            *further,
        ]

    def aggregation(self) -> list[str]:
        """Further flags of an API server that has nodes and aggregated APIs behind it."""
        pki = self.pki
        return [
            *(f"--kubelet-client-certificate={pki}/admin.crt", f"--kubelet-client-key={pki}/admin.key"),
            *(f"--kubelet-certificate-authority={pki}/ca.crt", "--kubelet-preferred-address-types=InternalIP"),
            *(
                f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
                f"--requestheader-allowed-names={FRONT_PROXY}",
            ),
            *("--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            *(f"--proxy-client-cert-file={pki}/front-proxy.crt", f"--proxy-client-key-file={pki}/front-proxy.key"),
        ]

    def controller_manager(self, *, further: Sequence[str] = ()) -> list[str]:
        """All default controllers, the garbage collector among them, without leader election."""
        pki = self.pki
        return [
            *(str(self.binary), "kube-controller-manager", f"--kubeconfig={pki}/kube-controller-manager.conf"),
            *(f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt"),
            *("--use-service-account-credentials", f"--cluster-signing-cert-file={pki}/ca.crt"),
            *(f"--cluster-signing-key-file={pki}/ca.key", "--leader-elect=false", "--allocate-node-cidrs=false"),
            *("--kube-api-qps=500", "--kube-api-burst=1000", f"--cert-dir={pki}"),
            *("--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20"),
            *(f"--flex-volume-plugin-dir={self.data}/volume-plugins", *further),
        ]

    def scheduler(self) -> list[str]:
        """The scheduler, without leader election."""
        return [
            *(
                str(self.binary),
                "kube-scheduler",
                f"--kubeconfig={self.pki}/kube-scheduler.conf",
                "--leader-elect=false",
            ),
            *(f"--cert-dir={self.pki}", "--kube-api-qps=500", "--kube-api-burst=1000"),
        ]
