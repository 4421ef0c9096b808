"""Reaching a cluster by a kubeconfig: kubectl, Helm, clients, namespaces, tokens of ServiceAccounts."""

import contextlib
import functools
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.cluster import kubeconfig as kubeconfigs
from tests.support.cluster import programs
from tests.support.cluster.readiness import mark_ready

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

COMMAND_SECONDS = 120.0
READY_SECONDS = 60.0


class CommandError(Exception):
    """kubectl or Helm failed; the message is the command and what it wrote to standard error."""

    def __init__(self, command: str, status: int, stderr: str) -> None:
        super().__init__(f"{command} ended with {status}: {stderr.strip()}")
        self.status = status
        self.stderr = stderr


class Access:
    """kubeconfig: the administrator's. kubectl: the program. home: where clients keep their caches."""

    def __init__(self, kubeconfig: Path, kubectl: Path, home: Path) -> None:
        self.kubeconfig = kubeconfig
        self.home = home
        self._kubectl = kubectl
        home.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that talk to the cluster: KUBECONFIG, kubectl on the PATH, no traces in the user's home."""
        caches = {name: str(self.home / name.lower()) for name in ("KUBECACHEDIR", "HELM_CACHE_HOME")}
        homes = {name: str(self.home / name.lower()) for name in ("HELM_CONFIG_HOME", "HELM_DATA_HOME")}
        path = f"{self._kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **caches, **homes, "PATH": path, "KUBECONFIG": str(self.kubeconfig), "KUBERC": "off"}

    def kubectl(self, *arguments: str, given: str | None = None, kubeconfig: Path | None = None) -> str:
        """Its standard output. given: standard input, for `apply -f -`. Raises CommandError."""
        return self._run([str(self._kubectl), *arguments], given, kubeconfig)

    def helm(self, *arguments: str, given: str | None = None, kubeconfig: Path | None = None) -> str:
        """Its standard output. Raises CommandError, and StartupError when there is no Helm and it cannot be built."""
        return self._run([str(self._helm), *arguments], given, kubeconfig)

    @functools.cached_property
    def _helm(self) -> Path:
        return programs.helm()

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> None:
        """Server-side apply of objects as the administrator, by kubectl's field manager. Raises CommandError."""
        several = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", given=json.dumps(several))

    def get(self, kind: str, name: str, *, namespace: str = "default") -> dict[str, Any]:
        """One object. Raises CommandError, "NotFound" in its stderr when it is not there."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "-o", "json"))
        return found

    def get_all(self, kind: str, *, namespace: str = "default", selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind in a namespace, or those that a label selector finds."""
        text = self.kubectl("get", kind, "--namespace", namespace, "--selector", selector, "-o", "json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def as_service_account(self, namespace: str, name: str, *, hours: int = 24) -> Path:
        """A kubeconfig with a token of the ServiceAccount, whose namespace is the one it works in."""
        token = self.kubectl("create", "token", name, "--namespace", namespace, f"--duration={hours}h").strip()
        view = json.loads(self.kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
        view["users"] = [{"name": "it", "user": kubeconfigs.token(token)}]
        view["contexts"][0]["context"] |= {"user": "it", "namespace": namespace}
        path = self.home / f"{namespace}.{name}.kubeconfig"
        kubeconfigs.write_private(path, json.dumps(view))
        return path

    @contextlib.asynccontextmanager
    async def client(self, kubeconfig: Path | None = None) -> "AsyncIterator[ApiClient]":
        """An asynchronous client, the administrator's or that of another kubeconfig."""
        # Heavy, and most tests need none.
        from kubernetes.aio import client, config

        configuration = client.Configuration()
        await config.load_kube_config(str(kubeconfig or self.kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api:
            yield api

    def create_namespace(self, prefix: str = "test", labels: Iterable[str] = ()) -> str:
        """A fresh namespace. labels: such as "pod-security.kubernetes.io/enforce=restricted"."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        labelled = dict(label.split("=", 1) for label in labels)
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labelled}})
        return name

    def delete_namespace(self, name: str) -> None:
        """Ask for it, and do not wait."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def mark_ready(
        self, namespace: str, *, selector: str = "", ready: bool = True, timeout: float = READY_SECONDS
    ) -> None:
        """Write what a kubelet would tell of the namespace's pods, until their Deployments have settled on it.

        selector: labels that pods, Deployments and StatefulSets have. ready: False takes readiness away. Raises
        TimeoutError.
        """
        mark_ready(str(self.kubeconfig), namespace, selector=selector, ready=ready, timeout=timeout)

    def _run(self, command: list[str], given: str | None, kubeconfig: Path | None) -> str:
        environment = self.environment
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        done = subprocess.run(
            command, env=environment, cwd=self.home, text=True, capture_output=True, check=False,
            timeout=COMMAND_SECONDS, **({"stdin": subprocess.DEVNULL} if given is None else {"input": given}),
        )  # fmt: skip
        if done.returncode != 0:
            words = " ".join((Path(command[0]).name, *command[1:]))
            raise CommandError(words, done.returncode, done.stderr)
        return done.stdout
