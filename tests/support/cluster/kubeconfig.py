"""Kubeconfigs that hold everything themselves, so that they can be handed to any process."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from tests.support.certificates import Pair


def write(path: Path, server: str, ca_file: Path, user: dict[str, str], namespace: str = "default") -> Path:
    """`user` is what `certificate` or `token` made; readable by the owner alone. Returns `path`."""
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority-data": _encoded(ca_file)}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace}}],
        "current-context": "it",
    }
    write_private(path, json.dumps(config))
    return path


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def certificate(pair: Pair) -> dict[str, str]:
    return {"client-certificate-data": _encoded(pair.cert_file), "client-key-data": _encoded(pair.key_file)}


def token(text: str) -> dict[str, str]:
    return {"token": text}


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
