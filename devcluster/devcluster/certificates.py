"""Certificates of a cluster, made with the openssl command: no Python package is needed for it.

Python >= 3.13 verifies strictly: an authority needs keyUsage=keyCertSign, a leaf its subject and authority key identifiers;
without them every in-cluster Python client fails.
"""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import ClusterError

DAYS = "365"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One certificate to issue: `NAME.crt` and `NAME.key` in the authority's directory."""

    name: str
    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority that lives in a directory."""

    directory: Path
    name: str = "ca"

    @property
    def pair(self) -> Pair:
        return _pair(self.directory, self.name)

    def create(self) -> None:
        """Make the authority's own key and certificate."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _new_key(self.pair.key)
        _openssl(
            *("req", "-x509", "-new", "-key", str(self.pair.key), "-out", str(self.pair.certificate), "-days", DAYS),
            *("-subj", f"/CN={self.name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"),
        )

    def issue(self, leaf: Leaf) -> Pair:
        """Sign one certificate, good for serving and for authenticating."""
        pair = _pair(self.directory, leaf.name)
        _new_key(pair.key)
        names = [f"DNS:{name}" for name in leaf.dns or (leaf.name,)] + [f"IP:{address}" for address in leaf.addresses]
        extensions = self.directory / f"{leaf.name}.ext"
        extensions.write_text(
            f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        request = _openssl("req", "-new", "-key", str(pair.key), "-subj", subject(leaf))
        serial = self.directory / f"{leaf.name}.srl"
        _openssl(
            *("x509", "-req", "-CA", str(self.pair.certificate), "-CAkey", str(self.pair.key), "-days", DAYS),
            *("-CAserial", str(serial), "-CAcreateserial", "-extfile", str(extensions), "-out", str(pair.certificate)),
            stdin=request,
        )
        extensions.unlink()
        return pair

    def issue_all(self, leaves: Sequence[Leaf]) -> None:
        """Sign many at once: openssl spends its time starting."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(self.issue, leaves))


def subject(leaf: Leaf) -> str:
    """The subject as openssl takes it: user and groups of a Kubernetes client."""
    return "".join(f"/O={organization}" for organization in leaf.organizations) + f"/CN={leaf.common_name}"


def new_signing_keys(directory: Path) -> Pair:
    """The key pair that signs service account tokens (`certificate` is the bare public key here)."""
    pair = Pair(certificate=directory / "sa.pub", key=directory / "sa.key")
    _new_key(pair.key)
    _openssl("ec", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
    return pair


def _pair(directory: Path, name: str) -> Pair:
    return Pair(certificate=directory / f"{name}.crt", key=directory / f"{name}.key")


def _new_key(path: Path) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))
    path.chmod(0o600)


def _openssl(*arguments: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError("openssl is missing: apt-get install openssl") from None
    if done.returncode != 0:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
