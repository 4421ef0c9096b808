"""The loop that keeps the full installation running: steps upwards, stages downwards, restarts between.

One thread waits on signals, on what the processes say and on the time. Standard library only.
"""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logstream.errors import StartupError
from logstream.standalone.child import describe
from logstream.standalone.full.part import Part

HOPELESS = 8
"""Deaths in a row of a process that has never worked, after which trying again is pointless."""
ASK_SECONDS = 0.2
COMPLAIN_SECONDS = 15.0
"""So often is told what a process waits for that is not ready."""


@dataclass(frozen=True, slots=True)
class Step:
    """Parts started together; when all are ready, `then` is called, which may raise StartupError."""

    parts: Sequence[Part]
    then: Callable[[], None]


class FullSupervisor:
    """Takes `steps` one after the other, and stops `stages` one after the other, the parts of each together.

    show: prints a line of a part's output. say: prints a sentence of ours.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        stages: Sequence[Sequence[Part]],
        *,
        show: Callable[[str, bytes], None],
        say: Callable[[str], None],
    ) -> None:
        self._steps = list(steps)
        self._stages = stages
        self._parts = [part for step in steps for part in step.parts]
        self._running: list[Part] = []
        self._show = show
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._status = 0
        self._signals_seen = 0

    def run(self) -> int:
        """Until SIGINT, SIGTERM or SIGHUP, or until a part cannot be started; returns the exit status."""
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        try:
            self._begin()
            while self._go_on(wake_read):
                pass
        finally:
            for part in reversed(self._parts):
                part.kill()
            signal.set_wakeup_fd(-1)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)
        return self._status

    def _begin(self) -> None:
        """Start the parts of the next step."""
        for part in self._steps[0].parts:
            self._running.append(part)
            self._start(part)

    def _go_on(self, wake_read: int) -> bool:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._signals(os.read(wake_read, 512))
            else:
                self._listen(key.data)
        for part in self._running:
            if (status := self._reap(part)) is not None:
                self._ended(part, status)
        now = time.monotonic()
        for part in self._running:
            self._look_after(part, now)
        if not self._stopping and self._steps and all(part.is_ready for part in self._steps[0].parts):
            self._finish_step()
        return self._stop_next() if self._stopping else True

    def _look_after(self, part: Part, now: float) -> None:
        if part.kill_at is not None and part.kill_at <= now:
            self._say(f"{part.name} did not stop in time and is killed; what was acknowledged is kept")
            part.kill()
        if part.pulse is not None and part.is_hung():
            self._say(f"{part.name} hangs: no answer for {part.pulse.hang_seconds:g} s, and is killed")
            part.kill()
        if self._stopping:
            return
        if part.process is None:
            if part.next_start <= now:
                self._start(part)
        elif not part.is_ready and part.asked_at + ASK_SECONDS <= now:
            if part.ask():
                self._say(f"{part.name} is ready")
            elif part.complained_at + COMPLAIN_SECONDS <= now:
                part.complained_at = now
                self._say(f"{part.name} is not ready: {part.reason}")

    def _finish_step(self) -> None:
        step = self._steps.pop(0)
        try:
            step.then()
        except StartupError as error:
            self._say(error.message)
            self._stop(1)
            return
        if self._steps:
            self._begin()

    def _stop_next(self) -> bool:
        """Stop the first stage that still runs; False when none does."""
        for stage in self._stages:
            alive = [part for part in stage if part.process is not None]
            for part in alive:
                part.stop()
            if alive:
                return True
        return False

    def _stop(self, status: int) -> None:
        self._status = max(self._status, status)
        self._stopping = True

    def _signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
                self._signals_seen += 1
                if self._signals_seen == 1:
                    self._say("stopping")
                    self._stop(0)
                elif number != signal.SIGHUP:
                    self._say("stopping at once; what was acknowledged is kept")
                    for part in self._running:
                        part.kill()

    def _patience(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        due = [part.kill_at for part in self._running if part.kill_at is not None]
        due += [part.pulse.due for part in self._running if part.pulse is not None and part.pulse.due is not None]
        if not self._stopping:
            due += [part.next_start for part in self._running if part.process is None]
            due += [
                part.asked_at + ASK_SECONDS for part in self._running if part.process is not None and not part.is_ready
            ]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start(self, part: Part) -> None:
        part.start()
        os.set_blocking(part.output.fileno(), False)
        self._selector.register(part.output, selectors.EVENT_READ, part)
        if part.process is not None:
            self._say(f"{part.name} is process {part.process.pid}")

    def _listen(self, part: Part) -> None:
        try:
            data = part.output.read(65_536)
        except (OSError, ValueError):
            return
        if data == b"":
            self._forget(part)
        for line in part.messages(data or b""):
            self._show(part.name, line)

    def _reap(self, part: Part) -> int | None:
        if part.process is None or part.process.poll() is None:
            return None
        self._listen(part)
        self._forget(part)
        return part.ended()

    def _forget(self, part: Part) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(part.output)

    def _ended(self, part: Part, status: int) -> None:
        part.kill_at = None
        part.is_ready = False
        if self._stopping:
            is_as_asked = status in {0, -part.stop_signal, 128 + part.stop_signal}
            self._say(f"{part.name} {'has stopped' if is_as_asked else describe(status)}")
            return
        if not part.proved and (status in {1, 2} or part.failures >= HOPELESS):
            self._say(f"{part.name} cannot be started ({describe(status)}); giving up")
            self._stop(1)
            return
        pause = part.plan_restart()
        self._say(f"{part.name} {describe(status)}; restart {part.restarts} in {pause:.1f} s")
