"""Processors on a real broker, in processes of their own, for tests that kill, freeze and stop them.

Usage of a child: `python -m tests.support.processor_kafka BOOTSTRAP URL STREAM`; it ends with its standard input.
"""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from logstream import processor
from logstream.bus.kafka import KafkaBus
from logstream.bus.protocol import Claim, LedgerEntry
from logstream.clock import SystemClock
from logstream.errors import LogStreamError
from logstream.processor import Deduplication, FixedStreams
from logstream.settings import KafkaSettings, StoreSettings
from logstream.storage.journal import make_journal
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream
from tests.support.processor import IDENTITY, processor_settings, publish, records

PARTITIONS = 4


def kafka_settings(bootstrap: str) -> KafkaSettings:
    """One broker; a member silent for six seconds is out."""
    return KafkaSettings(
        bootstrap_servers=bootstrap, partitions=PARTITIONS, replication_factor=1, min_insync_replicas=1,
        session_timeout_seconds=6, rebalance_timeout_seconds=20,
    )  # fmt: skip


async def serve(bootstrap: str, store: Store, stream: Stream, stop: asyncio.Event) -> None:
    """One processor of `stream`, until `stop`."""
    journal = make_journal(store)
    bus = await KafkaBus.open(kafka_settings(bootstrap), SystemClock(), journal=journal)
    try:
        await processor.serve(
            processor_settings(flush_seconds=0.05, revoke_seconds=5), bus=bus, store=store,
            streams=FixedStreams([stream]), clock=SystemClock(), stop=stop,
            deduplication=Deduplication(journal, 3600.0),
        )  # fmt: skip
    finally:
        await bus.close()


class Child:
    """One processor in a process of its own."""

    def __init__(self, bootstrap: str, url: str, stream: Stream, log: Path) -> None:
        self._command = [sys.executable, "-m", "tests.support.processor_kafka", bootstrap, url, stream.name]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._close()

    def leave(self) -> None:
        """Stop in good order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0, self._log.read_text()[-3000:]

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


@dataclass(slots=True)
class Load:
    """Numbered rows on a topic; some requests carry a key and come again, as after a lost answer."""

    bus: KafkaBus
    stream: Stream
    rng: random.Random
    numbers: set[str] = field(default_factory=set)
    accepted: int = 0
    _next: int = 0

    async def send(self, batches: int) -> None:
        """`batches` requests of seven rows, received today or yesterday."""
        for _ in range(batches):
            rows = records(7, seed=self._next)
            self.numbers |= {row.metadata["id"] for row in rows}
            received_at = SystemClock().now_ns() - self.rng.choice((0, 0, 86_400 * 10**9))
            digest = hashlib.sha256(f"{self._next}".encode()).digest()
            claim = Claim(digest[:16], digest[16:]) if self.rng.random() < 0.5 else None
            for _ in range(self.rng.choice((1, 1, 2, 3)) if claim else 1):
                await publish(self.bus, self.stream, rows, received_at=received_at, claim=claim)
                self.accepted += len(rows)
            self._next += 1

    async def entry(self) -> LedgerEntry | None:
        entries = await self.bus.ledger(self.stream.topic)
        for e in entries:
            assert e.accepted == e.stored + e.deduplicated + e.dead_lettered + e.in_flight, e
        return entries[0] if entries else None

    async def settled(self, seconds: float = 240.0) -> LedgerEntry:
        """Once nothing is in flight any more."""
        async with asyncio.timeout(seconds):
            while True:
                entry = await self.entry()
                if entry is not None and entry.in_flight == 0 and entry.accepted >= self.accepted:
                    return entry
                await asyncio.sleep(0.1)

    async def check(self, store: Store) -> None:
        """Every number is stored exactly once, and the ledger says so."""
        entry = await self.settled()
        answer = await store.query(
            f"SELECT count(), uniqExact({IDENTITY}), uniqExact(metadata['id']) FROM {self.stream.database}.logs"
        )
        assert answer.rows[0] == (len(self.numbers),) * 3
        assert (entry.accepted, entry.stored, entry.dead_lettered) == (self.accepted, len(self.numbers), 0)
        assert entry.deduplicated == self.accepted - len(self.numbers)


async def main(bootstrap: str, url: str, name: str) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    store = await Store.connect(StoreSettings(url=url))
    try:
        await serve(bootstrap, store, make_stream(name), stop)
    except LogStreamError as error:
        print(error.message, file=sys.stderr)
        os._exit(3)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
