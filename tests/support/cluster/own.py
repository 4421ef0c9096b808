"""A control plane of our own: etcd, kube-apiserver and kube-controller-manager on loopback."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from logstream.standalone.full.keeper import command
from logstream.standalone.full.process import ServerProcess
from tests.support.certificates import Authority
from tests.support.cluster import control_plane, kubeconfig, programs, usage
from tests.support.cluster.access import Access
from tests.support.cluster.control_plane import HOST, Files, Ports
from tests.support.ports import free_ports
from tests.support.server import OwnServer

START_SECONDS = 90.0
# The API server waits for requests that run; after this many seconds it is killed.
GRACE = 15.0


class Cluster(Access, OwnServer):
    """Everything in `folder`; addresses and data stay over restarts. No node is there: pods stay pending.

    `start` and `stop` are for all three; `kill` (SIGKILL), `restart`, `pause` (SIGSTOP) and `resume` are for the API
    server alone, and `etcd` and `controllers` are processes with the same methods. They wait, up to a minute or so:
    call them with `asyncio.to_thread` in asynchronous tests. Everything ends with this process, however that ends.

    audit: keep what ServiceAccounts ask for (`usage`). apiserver: further flags of kube-apiserver. Raises
    StartupError when the programs are not there and cannot be built.
    """

    def __init__(
        self, folder: Path, *, audit: bool = True, apiserver: Sequence[str] = (), tell: programs.Tell | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        assets = programs.control_plane(tell)
        self._ports = Ports(*free_ports(4))
        authority = Authority(folder / "certificates", "LogStream test cluster")
        self._ca_file = authority.ca_file
        self.server = f"https://{HOST}:{self._ports.apiserver}"
        administrator = authority.issue("administrator", client=True, group="system:masters")
        admin = kubeconfig.write(
            folder / "admin.kubeconfig", self.server, authority.ca_file, kubeconfig.certificate(administrator)
        )
        super().__init__(admin, assets / "kubectl", folder / "home")
        self._files = Files(
            etcd_data=folder / "etcd",
            ca=authority.ca_file,
            server=authority.issue("kube-apiserver"),
            signing=authority.issue("service-accounts"),
            admin=admin,
            audit_policy=folder / "audit-policy.yaml",
            audit_log=folder / "audit.log",
        )
        self._files.audit_policy.write_text(control_plane.AUDIT_POLICY)

        def server(name: str, arguments: Sequence[str], is_ready: Callable[[], bool]) -> ServerProcess:
            return ServerProcess(
                name, command((str(assets / name), *arguments), grace=GRACE), folder / f"{name}.log", is_ready
            )

        ports, files = self._ports, self._files
        self.etcd = server("etcd", control_plane.etcd(ports, files), self._etcd_is_ready)
        self.apiserver = server(
            "kube-apiserver", control_plane.apiserver(ports, files, audit=audit, extra=apiserver), self._is_ready
        )
        self.controllers = server(
            "kube-controller-manager", control_plane.controllers(ports, files), self._controllers_are_ready
        )

    @property
    def process(self) -> ServerProcess:
        return self.apiserver

    def start(self) -> Self:
        """What does not run of the three, until namespaces can be used. Raises StartupError."""
        for process in (self.etcd, self.apiserver, self.controllers):
            if not process.is_running:
                process.start(START_SECONDS)
        self._wait_for(
            lambda: "default" in self.kubectl("get", "serviceaccounts", "--output=name", "--namespace=default")
        )
        return self

    def stop(self) -> None:
        """At once: nothing of it is needed any more."""
        for process in (self.controllers, self.apiserver, self.etcd):
            process.kill()

    def ensure_running(self) -> None:
        """After a test that left something dead or frozen."""
        for process in (self.etcd, self.apiserver, self.controllers):
            if process.is_running:
                process.resume()
        self.start()

    def restart_controllers(self) -> None:
        """Let garbage collection see new kinds at once: by itself it looks for them every half a minute."""
        self.controllers.kill()
        self.controllers.start(START_SECONDS)

    def expire_watches(self) -> None:
        """Restart the API server so that every watch that goes on from what it saw last is told 410 Gone.

        The history of etcd ends now, and the revision is well past what any client can know.
        """
        self.apiserver.kill()
        revision = 0
        for _ in range(10):
            key = base64.b64encode(b"logstream-tests").decode()
            revision = int(self._etcd("kv/put", {"key": key, "value": key})["header"]["revision"])
        self._etcd("kv/compaction", {"revision": revision, "physical": True})
        self.apiserver.start(START_SECONDS)

    def usage(self, namespace: str, name: str) -> usage.Usage:
        """What the ServiceAccount asked for since the start. A watch counts from its start; any other request is in
        it a moment after its answer. Raises FileNotFoundError without `audit`."""
        rolled = sorted(self._files.audit_log.parent.glob("audit-*.log"))
        lines: list[str] = []
        for path in (*rolled, self._files.audit_log):
            with path.open() as file:
                lines += [line for line in file if f":{namespace}:{name}" in line]
        return usage.read(lines, f"system:serviceaccount:{namespace}:{name}")

    def _is_ready(self) -> bool:
        return self._answers(f"{self.server}/readyz")

    def _etcd_is_ready(self) -> bool:
        return self._answers(f"http://{HOST}:{self._ports.etcd}/readyz")

    def _controllers_are_ready(self) -> bool:
        return self._answers(f"https://{HOST}:{self._ports.controllers}/healthz")

    def _answers(self, url: str) -> bool:
        try:
            self._request(url)
        except OSError:
            return False
        return True

    def _etcd(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            self._request(f"http://{HOST}:{self._ports.etcd}/v3/{path}", json.dumps(body).encode())
        )
        return answer

    def _request(self, url: str, body: bytes | None = None) -> bytes:
        context = ssl.create_default_context(cafile=str(self._ca_file)) if url.startswith("https:") else None
        with urllib.request.urlopen(url, body, timeout=10, context=context) as answer:
            content: bytes = answer.read()
            return content

    def _wait_for(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_so():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the cluster did not settle:\n{self.controllers.log_tail()}")
            time.sleep(0.1)
