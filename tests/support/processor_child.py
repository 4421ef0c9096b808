"""A process that publishes, processes and kills itself at a chosen point.

Usage: `python -m tests.support.processor_child BUS URL STREAM BATCHES POINT NTH`.

Every batch is published with a claim of its own, and its number is printed once it is acknowledged. POINT is one
of `POINTS`, or "none": then it ends when nothing is in flight any more, and prints "settled".
"""

import asyncio
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from logstream.bus.protocol import Claim
from logstream.bus.sqlite import SqliteBus
from logstream.bus.sqlite.log import Log
from logstream.settings import StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream
from tests.support.processor import publish, records, running

_ONE_BY_ONE = 6
"""Batches, the last ones, that are stored before the next is sent: so there are as many plans and INSERTs at least."""
POINTS = ("planned", "inserting", "inserted", "committed", "published")
ROWS = 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Burns down with each time its point is passed."""

    def __init__(self, point: str, nth: int) -> None:
        self.point = point
        self._left = nth

    def passes(self, point: str) -> bool:
        if point == self.point:
            self._left -= 1
        return point == self.point and self._left == 0


class MortalStore(Store):
    """The real store, in a process that may die around an INSERT."""

    fuse: Fuse

    async def insert(
        self,
        stream: Stream,
        parts: Sequence[bytes | memoryview],
        *,
        rows: int,
        token: str,
        partition: int | None = None,
    ) -> None:
        if self.fuse.passes("planned"):
            die()
        if self.fuse.passes("inserting"):
            threading.Timer(0.004, die).start()
        await super().insert(stream, parts, rows=rows, token=token, partition=partition)
        if self.fuse.passes("inserted"):
            die()


def arm_log(fuse: Fuse) -> None:
    """Die right after a commit of the log: of a position, or of a record (before it is acknowledged)."""
    finish = Log.finish
    commit = Log.commit
    append = Log.append
    seen: set[str] = set()

    def committing(self, *arguments):  # type: ignore[no-untyped-def]
        seen.add("committed" if arguments[3] is not None else "")
        return commit(self, *arguments)

    def appending(self, *arguments):  # type: ignore[no-untyped-def]
        seen.add("published")
        return append(self, *arguments)

    def finishing(self: Log) -> None:
        finish(self)
        for point in ("committed", "published"):
            if point in seen and fuse.passes(point):
                die()
        seen.clear()

    Log.commit = committing  # type: ignore[method-assign]
    Log.append = appending  # type: ignore[method-assign]
    Log.finish = finishing  # type: ignore[method-assign]


async def publish_batch(bus: SqliteBus, stream: Stream, number: int) -> None:
    digest = hashlib.sha256(f"batch {number}".encode()).digest()
    await publish(bus, stream, records(ROWS, seed=number), claim=Claim(digest[:16], digest[16:]))
    print(number, flush=True)


async def main(bus_path: str, url: str, name: str, batches: str, point: str, nth: str) -> None:
    fuse = Fuse(point, int(nth))
    arm_log(fuse)
    store = MortalStore(StoreSettings(url=url))
    store.fuse = fuse
    stream = make_stream(name)
    async with running(Path(bus_path), url, stream, store=store) as run:
        numbers = [int(number) for number in batches.split(",")]
        for number in numbers[:-_ONE_BY_ONE]:
            await publish_batch(run.bus, stream, number)
            await asyncio.sleep(0.002)
        for number in numbers[-_ONE_BY_ONE:]:
            await publish_batch(run.bus, stream, number)
            await run.settled()
        print("settled", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
