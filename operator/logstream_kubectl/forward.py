"""A way to a ready API pod through `kubectl port-forward`, for as long as a command runs."""

import contextlib
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Iterator
from threading import Condition, Thread

from logstream.cli.failure import Failure
from logstream_kubectl.kubectl import Kubectl, advise
from logstream_kubectl.resources import Object, api_labels, http_port, name_of, ready_pods

START_SECONDS = 30.0
_LONGEST_PAUSE = 10.0
_KEEPER = '"$@" & exec >&- 2>&-; read -r _; kill $!; wait'
"""Ends kubectl when its standard input does: with this command, however that ends."""
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")


def api_pod(kubectl: Kubectl, plane: str) -> Object:
    """A pod of the data plane's API that takes requests. Raises Failure."""
    pods = kubectl.all("pods", labels=",".join(f"{name}={value}" for name, value in api_labels(plane).items()))
    found = ready_pods(pods)
    if found:
        return found[0]
    count = f"none of its {len(pods)} API pods is ready" if pods else "it has no API pod"
    raise Failure(
        f"LogStream {plane} cannot be asked: {count}; see why with: {kubectl.hint(f'kubectl logstream status {plane}')}"
    )


class Forward:
    """One local port, on loopback, that leads to a ready API pod of `plane`: to another one when that goes.

    Use as a context manager; entering raises Failure. url: of the near end.
    """

    def __init__(self, kubectl: Kubectl, plane: str) -> None:
        self._kubectl = kubectl
        self._plane = plane
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._told: deque[str] = deque(maxlen=10)
        self._changed = Condition()
        self._lost = self._ended = False
        self._thread = Thread(target=self._keep, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "Forward":
        self._process = self._start()
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._port or self._lost, START_SECONDS)
        if not self._port:
            self.close()
            said = advise("\n".join(self._told), "create", "pods/portforward") if self._told else "it said nothing"
            raise Failure(f"no way to the API of LogStream {self._plane}: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End kubectl. Idempotent."""
        with self._changed:
            self._ended = True
            process = self._process
            self._changed.notify_all()
        if process is not None:
            _end(process)
        if self._thread.is_alive():
            self._thread.join(5)

    def _start(self) -> "subprocess.Popen[str]":
        pod = api_pod(self._kubectl, self._plane)
        command = self._kubectl.command(
            "port-forward", "--address=127.0.0.1", f"pod/{name_of(pod)}", f"{self._port or ''}:{http_port(pod)}"
        )
        # A session of its own: Ctrl-C is for this command, which then ends kubectl.
        return subprocess.Popen(
            ["sh", "-c", _KEEPER, "sh", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def _keep(self) -> None:
        """Read what kubectl says; when its pod has gone, take another one under the same port."""
        pause = 0.5
        while (process := self._process) is not None:
            for line in process.stdout or ():
                self._heard(line)
                pause = 0.5
            _end(process)
            with self._changed:
                self._lost = True
                self._changed.notify_all()
                # A forward that never worked is the command's to report.
                if not self._port or self._changed.wait_for(lambda: self._ended, pause):
                    return
            pause = min(_LONGEST_PAUSE, pause * 2)
            with contextlib.suppress(Failure, OSError):
                fresh = self._start()
                with self._changed:
                    self._process = fresh
                    late = self._ended
                if late:
                    _end(fresh)

    def _heard(self, line: str) -> None:
        self._told.append(line.strip())
        found = _FORWARDING.match(line)
        if found is not None:
            with self._changed:
                self._port = int(found[1])
                self._changed.notify_all()


def _end(process: "subprocess.Popen[str]") -> None:
    """Idempotent."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def way(kubectl: Kubectl, plane: str, url: str | None) -> Iterator[str]:
    """The address of the API: `url` where it is given, else the near end of a forward. Raises Failure."""
    if url is not None:
        yield url
        return
    with Forward(kubectl, plane) as forward:
        yield forward.url
