"""A kubeconfig as text: JSON, which is YAML, with everything embedded so that the file may be copied anywhere."""

import base64
import json
from pathlib import Path

from devcluster.certificates import Pair


def render(*, cluster: str, user: str, server: str, authority: Path, pair: Pair) -> str:
    """The kubeconfig of one user."""

    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "clusters": [
                {"name": cluster, "cluster": {"server": server, "certificate-authority-data": data(authority)}}
            ],
            "users": [
                {
                    "name": user,
                    "user": {"client-certificate-data": data(pair.certificate), "client-key-data": data(pair.key)},
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        },
        indent=1,
    )


def write(path: Path, text: str) -> Path:
    """Keep it readable by its owner alone: it holds a key."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
