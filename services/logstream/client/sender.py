"""Settling batches: requests repeated under one Idempotency-Key until there is an answer, or the time is up."""

import random
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from logstream.client.buffer import Buffer
from logstream.client.transport import Outcome, Transport, Verdict, encode_body

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
_URGENT_PAUSE = 0.5
_TOLD_SECONDS = 60.0


@dataclass(slots=True)
class Totals:
    """What became of the lines that were taken from the buffer."""

    accepted: int = 0
    rejected: int = 0
    uncertain: int = 0
    retries: int = 0


class Problems:
    """Sentences for a person: each kind once, and again only after all was well and a minute has passed."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say = say or to_stderr
        self._told: dict[str, float] = {}
        self.last = ""

    def tell(self, kind: str, problem: str) -> None:
        self.last = problem
        if kind not in self._told:
            self._told[kind] = time.monotonic()
            try:
                self._say(problem)
            except Exception:
                # What the program makes of it must not end the thread that sends.
                to_stderr(problem)

    def clear(self) -> None:
        """The collector has answered well."""
        if self._told:
            now = time.monotonic()
            self._told = {kind: since for kind, since in self._told.items() if now - since < _TOLD_SECONDS}


def to_stderr(problem: str) -> None:
    """One line on standard error, if there is one."""
    try:
        sys.stderr.write(f"logstream.client: {problem}\n")
    except (AttributeError, OSError, ValueError):
        return


class Sender:
    """Settles batch after batch with `run`, in one thread at a time."""

    def __init__(self, buffer: Buffer, transport: Transport, problems: Problems, *, compress: bool) -> None:
        self.totals = Totals()
        self.deadline: float | None = None
        """Monotonic time after which nothing is tried any more; None while the program goes on."""
        self._buffer = buffer
        self._transport = transport
        self._problems = problems
        self._compress = compress

    def run(self, linger: float, report: Callable[[int], bytes]) -> None:
        """Settle batches until the buffer is closed and empty."""
        try:
            while batch := self._buffer.take(linger, report):
                self._settle(batch)
        finally:
            self._transport.close()

    def _settle(self, batch: list[bytes]) -> None:
        sum_ = Totals()
        lost = len(batch)
        try:
            lost = self._deliver(batch, sum_)
        except Exception as error:
            self._problems.tell("failure", f"a batch of {lost} records failed: {type(error).__name__}: {error}")
            lost = len(batch) - sum_.accepted - sum_.rejected - sum_.uncertain
        finally:
            with self._buffer.lock:
                self.totals.accepted += sum_.accepted
                self.totals.rejected += sum_.rejected
                self.totals.uncertain += sum_.uncertain
                self._buffer.done(dropped=lost)

    def _deliver(self, batch: list[bytes], totals: Totals) -> int:
        """How many lines were given up because the time was over."""
        lost = 0
        pieces = [batch]
        while pieces:
            piece = pieces.pop()
            outcome = self._outcome(piece)
            size = len(piece)
            if outcome is None:
                lost += size
            elif outcome.verdict is Verdict.TOO_LARGE and size > 1:
                # Nothing of it was stored; each half gets a key of its own.
                pieces += [piece[size // 2 :], piece[: size // 2]]
            else:
                if outcome.problem:
                    self._problems.tell(outcome.kind, outcome.problem)
                if outcome.verdict is Verdict.ACCEPTED:
                    totals.rejected += outcome.rejected
                    totals.accepted += size - outcome.rejected
                elif outcome.verdict is Verdict.KNOWN:
                    totals.uncertain += size
                else:
                    totals.rejected += size
        return lost

    def _outcome(self, lines: list[bytes]) -> Outcome | None:
        """The first answer that a repeat would not change; None when the time is over before."""
        key = uuid.uuid4().hex
        body, gzipped = encode_body(lines, compress=self._compress)
        pause = FIRST_PAUSE
        while True:
            left = None if self.deadline is None else self.deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            outcome = self._transport.post(body, key, gzipped=gzipped, timeout=left)
            if outcome.verdict not in (Verdict.LATER, Verdict.MISCONFIGURED):
                self._problems.clear()
                return outcome
            self._problems.tell(outcome.kind, outcome.problem)
            if not self._wait(outcome, pause):
                return None
            self.totals.retries += 1
            pause = min(LONGEST_PAUSE, pause * 2)

    def _wait(self, outcome: Outcome, pause: float) -> bool:
        """Pause between attempts; False when there is no time for another.

        Retry-After is a lower bound; our own pause gives way to a flush.
        """
        now = time.monotonic()
        earliest = now + outcome.wait
        if outcome.verdict is Verdict.MISCONFIGURED:
            pause = LONGEST_PAUSE
        wanted = max(earliest, now + pause * random.uniform(0.5, 1.0))
        while (now := time.monotonic()) < wanted:
            if self.deadline is not None and (outcome.verdict is Verdict.MISCONFIGURED or earliest > self.deadline):
                return False
            if self._buffer.urgent and wanted > earliest:
                wanted = min(wanted, max(earliest, now + _URGENT_PAUSE * random.uniform(0.5, 1.0)))
            was_urgent = self._buffer.urgent
            self._buffer.pause(wanted - now)
            if not was_urgent and self._buffer.urgent:
                wanted = earliest  # one attempt at once for who begins to wait
        return True
