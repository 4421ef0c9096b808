"""A whole collector for tests: HTTP on a free port, the embedded log, accounts in SQLite."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from logstream import collector, web
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.principal import Quota, Scope
from logstream.auth.quota import QuotaLimiter
from logstream.bus.header import Header, decode
from logstream.bus.protocol import Bus
from logstream.bus.sqlite import SqliteBus
from logstream.clock import Clock, SystemClock
from logstream.record import Record
from logstream.settings import AuthSettings, BusSettings, CollectorSettings, IngestLimits
from logstream.storage import block
from logstream.stream import Stream, make_stream


@dataclass
class Ingest:
    """A running collector with a key that may send."""

    client: httpx.AsyncClient
    port: int
    bus: Bus
    accounts: Accounts
    gate: Gate
    stream: Stream
    key: str
    key_id: str
    stop: asyncio.Event
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def post(self, content: bytes | str, **headers: str) -> httpx.Response:
        """POST /ingest with the key; `content_encoding="gzip"` and the like become headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/ingest", content=content, headers={"authorization": self.key, **named})

    async def messages(self) -> list[tuple[Header, list[Record]]]:
        """Everything in the log."""
        found = []
        offset = 0
        while batch := await self.bus.read(self.stream.topic, 0, offset, max_bytes=1 << 30):
            for message in batch:
                header, payload = decode(message.value)
                found.append((header, list(block.decode(payload, header.rows))))
                offset = message.offset + 1
        return found

    async def records(self) -> list[Record]:
        """All rows in the log, in order."""
        return [record for _, records in await self.messages() for record in records]

    async def create_key(
        self, *, scopes: tuple[Scope, ...] = (Scope.INGEST,), quota: Quota | None = None
    ) -> tuple[str, str]:
        """Text and id of another key of the stream."""
        created = await self.accounts.create_key("test", scopes=scopes, quota=quota)
        return created.text, created.key.id


@asynccontextmanager
async def ingest(
    path: Path,
    *,
    limits: IngestLimits | None = None,
    settings: CollectorSettings | None = None,
    bus: Bus | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Ingest]:
    """A collector that serves until the block ends. `bus` in place of the embedded log, not closed here."""
    clock = clock or SystemClock()
    stream = make_stream("default")
    own_bus = (
        await SqliteBus.open(BusSettings(path=path / "bus", min_free_disk_bytes=0), clock) if bus is None else None
    )
    chosen = bus or own_bus
    assert chosen is not None
    await chosen.create_topic(stream.topic)
    accounts = await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{path / 'auth.db'}"), clock)
    await accounts.ensure_stream(stream)
    gate = await Gate.open(accounts)
    created = await accounts.create_key("test", scopes=(Scope.INGEST,))
    if settings is None:
        settings = CollectorSettings(limits=limits or IngestLimits(), flush_seconds=0.001)
    sock = web.listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    stop = asyncio.Event()
    server = asyncio.create_task(
        collector.serve(settings, sock=sock, bus=chosen, gate=gate, quota=QuotaLimiter(clock), clock=clock, stop=stop)
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield Ingest(client, port, chosen, accounts, gate, stream, created.text, created.key.id, stop)
    finally:
        stop.set()
        await server
        if own_bus is not None:
            await own_bus.close()
        await accounts.close()
