"""The supervisor's loop: two children, the engine and the application, kept running until told to stop.

One thread waits on signals, on what the children say and on the time; it holds nothing but their process
ids. Standard library only.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from logstream.standalone.child import Child, describe

HOPELESS = 8
"""Deaths in a row of a child that has never worked, after which trying again is pointless."""
APP_GRACE = 40.0
ENGINE_GRACE = 60.0

Message = dict[str, Any]


class Supervisor:
    """Keeps `engine` and `app` running.

    sockets: what the application listens on. They belong to the supervisor, so that a client who comes while
    the application is being started again waits in the backlog instead of being refused.
    on_ready: called with the application's message the first time everything works.
    """

    def __init__(
        self,
        engine: Child,
        app: Child,
        sockets: Sequence[socket.socket],
        *,
        on_ready: Callable[[Message], None],
        say: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._app = app
        self._sockets = sockets
        self._on_ready = on_ready
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._status = 0
        self._signals_seen = 0
        self._ready_seen = False

    def run(self) -> int:
        """Until SIGINT or SIGTERM, or until a child cannot be started; returns the exit status."""
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        try:
            self._start(self._engine)
            self._start(self._app)
            while self._step(wake_read):
                pass
        finally:
            for child in (self._app, self._engine):
                child.kill()
            signal.set_wakeup_fd(-1)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)
        return self._status

    def _step(self, wake_read: int) -> bool:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._signals(os.read(wake_read, 512))
            else:
                self._listen(key.data)
        for child in (self._app, self._engine):
            if (status := self._reap(child)) is not None:
                self._ended(child, status)
        now = time.monotonic()
        for child in (self._engine, self._app):
            if child.kill_at is not None and child.kill_at <= now:
                self._say(f"the {child.name} did not stop in time and is killed; what was acknowledged is kept")
                child.kill()
            if child.pulse is not None and child.is_hung():
                silence = f"{child.pulse.hang_seconds:g} s"
                self._say(f"the {child.name} hangs: it runs, but answered nothing for {silence}, and is killed")
                child.kill()
            if not self._stopping and child.process is None and child.next_start <= now:
                self._start(child)
        if self._stopping and self._app.process is None:
            if self._engine.process is None:
                return False
            if self._engine.kill_at is None:
                self._engine.terminate(ENGINE_GRACE)
        return True

    def _patience(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        due = [c.kill_at for c in (self._app, self._engine) if c.kill_at is not None]
        due += [c.pulse.due for c in (self._app, self._engine) if c.pulse is not None and c.pulse.due is not None]
        if not self._stopping:
            due += [c.next_start for c in (self._app, self._engine) if c.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
                self._signals_seen += 1
                if self._signals_seen == 1:
                    self._say("stopping")
                    self._stop(0)
                elif number != signal.SIGHUP:
                    self._say("stopping at once; what was acknowledged is kept")
                    self._app.kill()
                    self._engine.kill()

    def _stop(self, status: int) -> None:
        """The application first: it finishes its requests while the engine is still there."""
        self._status = max(self._status, status)
        if self._stopping:
            return
        self._stopping = True
        for sock in self._sockets:
            sock.close()
        self._app.terminate(APP_GRACE)

    def _start(self, child: Child) -> None:
        child.start()
        os.set_blocking(child.output.fileno(), False)
        self._selector.register(child.output, selectors.EVENT_READ, child)
        if child is self._app:
            self._tell_restarts()

    def _tell_restarts(self) -> None:
        for child in (self._engine, self._app):
            self._app.tell(f"restarts {child.name} {child.restarts}")

    def _listen(self, child: Child) -> None:
        try:
            data = child.output.read(65_536)
        except (OSError, ValueError):
            return
        if data == b"":
            self._forget(child)
        for line in child.messages(data or b""):
            self._heard(child, line)

    def _heard(self, child: Child, line: bytes) -> None:
        if child is self._engine:
            # Its one line is its address: it answers.
            child.ready()
            return
        try:
            message = json.loads(line)
            event = message["event"]
        except (ValueError, TypeError, KeyError):
            self._say(f"{child.name}: {line.decode(errors='replace')}")
            return
        if event == "ready":
            self._engine.proved = True
            child.ready()
            if not self._ready_seen:
                self._ready_seen = True
                self._on_ready(message)

    def _reap(self, child: Child) -> int | None:
        if child.process is None or child.process.poll() is None:
            return None
        self._listen(child)
        self._forget(child)
        return child.ended()

    def _forget(self, child: Child) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.output)

    def _ended(self, child: Child, status: int) -> None:
        child.kill_at = None
        if self._stopping:
            return
        if not child.proved and (status == 1 or child.failures >= HOPELESS):
            # It has said why in a sentence of its own (StartupError), or with a traceback.
            self._say(f"the {child.name} cannot be started ({describe(status)}); giving up")
            self._stop(1)
            return
        pause = child.plan_restart()
        self._say(f"the {child.name} {describe(status)}; restart {child.restarts} in {pause:.1f} s")
        self._tell_restarts()


def say(text: str) -> None:
    """One line on standard error, for a person."""
    try:
        sys.stderr.write(f"logstream: {text}\n")
        sys.stderr.flush()
    except OSError:
        pass
