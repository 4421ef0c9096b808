"""`kubectl logstream` as a person runs it: by the real kubectl, with the plugin on the PATH.

What a node would do, forwarding a port to a pod, is done by a stand-in: there is no kubelet.
"""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.cluster import Access
from tests.support.up import PATIENCE

DROPPED = ("LOGSTREAM_API_KEY", "LOGSTREAM_INGEST_URL", "LOGSTREAM_API_URL", "LOGSTREAM_CONTEXT", "LOGSTREAM_CONFIG")
_FORWARDER = """\
import asyncio, os, sys

# Says what kubectl says, and leads to the address in the file, as the kubelet would to the pod.
pod = next(word for word in sys.argv[1:] if word.startswith("pod/"))
local, _, remote = sys.argv[sys.argv.index(pod) + 1].partition(":")
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}} {{pod}} {{local}}:{{remote}}\\n")


async def main():
    async def lead(reader, writer):
        host, port = open({target!r}).read().split(":")
        there, back = await asyncio.open_connection(host, int(port))

        async def copy(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(lead, "127.0.0.1", int(local or 0))
    port = server.sockets[0].getsockname()[1]
    print(f"Forwarding from 127.0.0.1:{{port}} -> {{remote}}", flush=True)
    await server.serve_forever()


asyncio.run(main())
"""


class Plugin:
    """folder: for the programs on the PATH. target: where forwarded ports lead, "host:port". stand_in: False has
    kubectl itself forward, which fails for want of a kubelet."""

    def __init__(self, access: Access, folder: Path, *, target: str = "127.0.0.1:9", stand_in: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._target, self._log, forwarder = folder / "target", folder / "forwards", folder / "forwarder.py"
        self.lead_to(target)
        forwarder.write_text(_FORWARDER.format(target=str(self._target), log=str(self._log)))
        real = Path(access.environment["PATH"].split(os.pathsep)[0]) / "kubectl"
        python = shlex.quote(sys.executable)
        self._program("kubectl-logstream", f'exec {python} -m logstream_kubectl "$@"')
        forward = f'[ "$1" = port-forward ] && exec {python} {shlex.quote(str(forwarder))} "$@"\n' if stand_in else ""
        self._program("kubectl", f'{forward}exec {shlex.quote(str(real))} "$@"')
        self.environment = {
            **{name: value for name, value in access.environment.items() if name not in DROPPED},
            "PATH": f"{folder}{os.pathsep}{access.environment['PATH']}",
            "TZ": "UTC",
        }

    def lead_to(self, target: str) -> None:
        self._target.write_text(target)

    @property
    def forwards(self) -> list[tuple[int, str, str]]:
        """Those so far: process id, pod, ports as they were asked for."""
        if not self._log.exists():
            return []
        lines = (line.split() for line in self._log.read_text().splitlines())
        return [(int(pid), pod, ports) for pid, pod, ports in lines]

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "logstream", *arguments],
            check=False, env=self.environment, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=PATIENCE, **more,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def begin(self, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        """One that goes on until it is ended."""
        with subprocess.Popen(
            ["kubectl", "logstream", *arguments],
            env=self.environment, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def _program(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
