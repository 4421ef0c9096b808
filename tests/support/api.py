"""The whole API for tests: HTTP on a free port, the real log, accounts, store and processor, one stream of its own."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from logstream import api, processor, web
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.principal import Scope
from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.record import Record
from logstream.settings import ApiSettings, AuthSettings, BusSettings, ProcessorSettings, StoreSettings
from logstream.storage.store import Store
from logstream.stream import Stream, make_stream
from tests.support.processor import publish


@dataclass
class Api:
    """A running API; `key` may read."""

    client: httpx.AsyncClient
    port: int
    bus: SqliteBus
    store: Store
    accounts: Accounts
    gate: Gate
    stream: Stream
    key: str
    key_id: str
    stop: asyncio.Event

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.get(path, params=params, headers=self.headers)

    async def send(self, records: Sequence[Record], *, received_at: int | None = None) -> None:
        """Into the log, as the collector does."""
        await publish(self.bus, self.stream, records, keys=[(self.key_id, len(records))], received_at=received_at)

    async def store_all(self, records: Sequence[Record]) -> None:
        """Into the log, and wait until it is stored."""
        await self.send(records)
        await self.stored()

    async def stored(self) -> None:
        """Wait until nothing is in flight."""
        async with asyncio.timeout(30):
            while any(entry.in_flight for entry in await self.bus.ledger(self.stream.topic)):
                await asyncio.sleep(0.01)

    def ws(self, path: str, **params: str) -> str:
        return f"ws://127.0.0.1:{self.port}" + str(httpx.URL(path, params=params))


@asynccontextmanager
async def running_api(
    path: Path, engine_url: str, *, settings: ApiSettings | None = None, bus_changes: dict[str, Any] | None = None
) -> AsyncIterator[Api]:
    """An API that serves until the block ends; in the same folder, one that goes on with what is there."""
    clock = SystemClock()
    stream = make_stream("default", namespace="test", generation=f"{os.getpid()}-{path}")
    bus = await SqliteBus.open(BusSettings(path=path / "bus", min_free_disk_bytes=0, **(bus_changes or {})), clock)
    await bus.create_topic(stream.topic)
    store = await Store.connect(StoreSettings(url=engine_url))
    await store.migrate(stream, retention_days=10_000)
    accounts = await Accounts.open(AuthSettings(url=f"sqlite+aiosqlite:///{path / 'auth.db'}"), clock)
    await accounts.ensure_stream(stream, retention_days=30)
    gate = await Gate.open(accounts)
    created = await accounts.create_key("reader", scopes=(Scope.READ,))
    stop = asyncio.Event()
    sock = web.listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    quick = ProcessorSettings(flush_seconds=0.02, retry_seconds=0.05)
    tasks = [
        asyncio.create_task(
            api.serve(
                settings or ApiSettings(), sock=sock, bus=bus, store=store, accounts=accounts, gate=gate, clock=clock,
                stop=stop,
            )
        ),
        asyncio.create_task(processor.serve(quick, bus=bus, store=store, streams=[stream], clock=clock, stop=stop)),
        asyncio.create_task(gate.run(stop)),
    ]  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield Api(client, port, bus, store, accounts, gate, stream, created.text, created.key.id, stop)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await bus.close()
        await store.close()
        await accounts.close()
