"""Quotas shared between collectors: each tells the others through Postgres what it charged, and they charge it too.

The bound. R: a quota's rate. B = 2R: its burst. N: collectors. D: seconds from charging a request here until every
other collector has charged it: half a second while the exchange works well, never more than `MAX_DELAY_SECONDS`.
In any t seconds all collectors together let through at most

    R·t + N·B + (N - 1)·R·D

and, beyond the first bursts, R a second: what was let through too much is debt, paid before more is let through.
(A single request larger than B adds what it has above B, once a collector.) A collector that does not hear itself
for `AWAY_SECONDS` takes R / N, N being what it saw last, until it does; those that still hear one another go on with R
among them: while some are cut off, all together have less than 2R a second, and R when all are.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping

from logstream.auth.database import Database
from logstream.auth.keys import new_id
from logstream.auth.principal import Quota
from logstream.auth.quota import QuotaLimiter, Usage
from logstream.auth.signals import MAX_PAYLOAD
from logstream.clock import Clock
from logstream.errors import Unavailable
from logstream.logs import get_logger
from logstream.metrics import QUOTA_COLLECTORS

CHANNEL = "logstream_quota"
REPORT_SECONDS = 0.5
IDLE_SECONDS = 1.0
"""A collector without anything to report says at least that it is there."""
AWAY_SECONDS = 2.0
"""Without an echo of what was sent within this time, the exchange is away."""
MEMBER_SECONDS = 4.0
"""A collector that says nothing for so long has stopped."""
MAX_DELAY_SECONDS = 3.0
_CHECK_SECONDS = 0.25

_log = get_logger("auth")

Send = Callable[[str, str], Awaitable[None]]


class QuotaExchange:
    """Of one collector process: `reports` and `hear` are its two ends, `check` decides, `run` does all in time.

    Its messages are lines: who and when (`MEMBER SECONDS`), then for each subject
    `SUBJECT RECORDS BYTES RECORDS_PER_SECOND BYTES_PER_SECOND`, a rate of `-` being none.
    """

    def __init__(self, limiter: QuotaLimiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock
        self.member = new_id()
        now = clock.monotonic()
        self._seen: dict[str, float] = {self.member: now}
        self._echoed = now
        self._reported = -math.inf
        self._unsent: deque[str] = deque()
        self._is_away = False
        limiter.recording = True
        QUOTA_COLLECTORS.set(1)

    @property
    def away(self) -> bool:
        """Whether each collector is on its own, with its share of every quota."""
        return self._is_away

    @property
    def collectors(self) -> int:
        """How many share the quotas, as last seen; this one included."""
        return len(self._seen)

    def reports(self) -> Iterator[str]:
        """The messages to send now, each until `sent` is called; empty when there is nothing to say yet."""
        now = self._clock.monotonic()
        used = self._limiter.take_used()
        # While nothing can be sent, nothing more is gathered: what waits says that we are there, too.
        if used or (not self._unsent and now - self._reported >= IDLE_SECONDS):
            self._reported = now
            self._unsent.extend(_encode(used))
        while self._unsent:
            yield f"{self.member} {self._clock.monotonic()!r}\n{self._unsent[0]}"
            self._unsent.popleft()

    def hear(self, payload: str) -> None:
        """A message of any collector, our own included."""
        now = self._clock.monotonic()
        try:
            member, sent, usages = _decode(payload)
        except ValueError:
            _log.debug("a message about quotas cannot be read")
            return
        if member == self.member:
            self._echoed = max(self._echoed, sent)
            self._seen[member] = now
            return
        self._seen[member] = now
        for subject, usage in usages:
            self._limiter.heard(subject, usage)

    def check(self) -> None:
        """Take the whole quotas, or a share of them while the exchange is away."""
        now = self._clock.monotonic()
        is_away = now - self._echoed > AWAY_SECONDS
        if is_away != self._is_away:
            self._is_away = is_away
            # What is let through as one's own share is nobody else's business; what was before still is.
            self._limiter.recording = not is_away
            self._seen = dict.fromkeys(self._seen, now)
            if is_away:
                _log.warning("quotas are not shared now, taking a part of them", collectors=self.collectors)
        if not is_away:
            for member in [member for member, seen in self._seen.items() if now - seen > MEMBER_SECONDS]:
                del self._seen[member]
            self._seen.setdefault(self.member, now)
        self._limiter.share = 1 / self.collectors if is_away else 1.0
        QUOTA_COLLECTORS.set(0 if is_away else self.collectors)

    async def run(self, send: Send, stop: asyncio.Event) -> None:
        """Report by `send(channel, message)` until `stop` is set. `hear` is to be called by whoever receives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_every(_CHECK_SECONDS, stop, self._check_once))
            tasks.create_task(_every(REPORT_SECONDS, stop, lambda: self._report_once(send)))

    async def _check_once(self) -> None:
        self.check()

    async def _report_once(self, send: Send) -> None:
        # What may not have arrived is sent again: charged twice is the safe side.
        with contextlib.suppress(Unavailable):
            for message in self.reports():
                await send(CHANNEL, message)


class SharedQuotas:
    """The exchange of a process on Postgres; on SQLite there is one process, and `run` does nothing.

    To be made before `Gate.run`, which receives for it.
    """

    def __init__(self, database: Database, limiter: QuotaLimiter, clock: Clock) -> None:
        self._signals = database.signals
        self.exchange: QuotaExchange | None = None
        if self._signals is not None:
            self.exchange = QuotaExchange(limiter, clock)
            self._signals.listen(CHANNEL, self.exchange.hear)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        if self._signals is not None and self.exchange is not None:
            await self.exchange.run(self._signals.send, stop)


async def _every(seconds: float, stop: asyncio.Event, do: Callable[[], Awaitable[None]]) -> None:
    while not stop.is_set():
        await do()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)


def _encode(used: Mapping[str, Usage]) -> Iterator[str]:
    """The lines of as many messages as it takes; at least one, which may be empty."""
    lines: list[str] = []
    size = 0
    for subject, usage in used.items():
        rates = (usage.quota.records_per_second, usage.quota.bytes_per_second)
        said = " ".join("-" if rate is None else repr(float(rate)) for rate in rates)
        line = f"{subject} {usage.records} {usage.bytes_} {said}"
        if lines and size + len(line) + 1 > MAX_PAYLOAD - 100:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    yield "\n".join(lines)


def _decode(payload: str) -> tuple[str, float, list[tuple[str, Usage]]]:
    """Raises ValueError for what `reports` does not make."""
    head, *lines = payload.split("\n")
    member, sent = head.split(" ")
    usages = []
    for line in lines:
        if line:
            subject, records, bytes_, by_records, by_bytes = line.split(" ")
            quota = Quota(*(None if rate == "-" else _rate(rate) for rate in (by_records, by_bytes)))
            usages.append((subject, Usage(quota, int(records), int(bytes_))))
    return member, float(sent), usages


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate < math.inf:
        raise ValueError(f"not a rate: {text}")
    return rate
