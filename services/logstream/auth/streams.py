"""The directory of streams: what exists, how long it keeps logs, and who may read without a credential."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Row, insert, select, update

from logstream.auth import schema
from logstream.auth.database import Database
from logstream.clock import Clock
from logstream.errors import Conflict, InvalidValue, NotFound
from logstream.stream import Stream

MAX_RETENTION_DAYS = 10_950


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as the directory knows it. created_at: nanoseconds since the epoch."""

    stream: Stream
    retention_days: int
    anonymous_reads: bool = False
    created_at: int = 0


RetentionHook = Callable[[Stream, int], Awaitable[None]]
"""What takes a stream's new retention in days: `Store.set_retention`."""


def stream_info(row: Row[tuple[object, ...]]) -> StreamInfo:
    """A row of `schema.streams`."""
    return StreamInfo(Stream(row.name, row.stream_id), row.retention_days, row.anonymous_reads, row.created_at)


def _check_retention(days: int) -> None:
    if not 1 <= days <= MAX_RETENTION_DAYS:
        raise InvalidValue(
            f"retention_days must be 1 to {MAX_RETENTION_DAYS}: {days}",
            field="retention_days",
            limit=MAX_RETENTION_DAYS,
        )


class Streams:
    """Reads and changes the directory. Every method may raise Unavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._hooks: list[RetentionHook] = []
        self._changing = asyncio.Lock()

    def on_retention_change(self, hook: RetentionHook) -> None:
        """Await `hook` with a stream and its new retention before that is written down.

        What the hook raises refuses the change: so the directory never promises a retention that the store
        did not take.
        """
        self._hooks.append(hook)

    async def list(self) -> Sequence[StreamInfo]:
        """All streams by name."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(schema.streams).order_by(schema.streams.c.name))
        return [stream_info(row) for row in rows]

    async def get(self, name: str) -> StreamInfo:
        """Raises NotFound."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(schema.streams).where(schema.streams.c.name == name))).one_or_none()
        if row is None:
            raise NotFound(f"there is no stream '{name}'", field="stream")
        return stream_info(row)

    async def ensure(self, stream: Stream, *, retention_days: int = 30) -> StreamInfo:
        """The stream's entry, made with `retention_days` when there is none. Calls no hook.

        Raises Conflict when the name belongs to a stream with another id.
        """
        _check_retention(retention_days)
        try:
            found = await self.get(stream.name)
        except NotFound:
            found = await self._insert(stream, retention_days)
        if found.stream != stream:
            raise Conflict(f"stream '{stream.name}' exists with the id {found.stream.stream_id}", field="stream")
        return found

    async def _insert(self, stream: Stream, retention_days: int) -> StreamInfo:
        async with self._database.write() as (connection, revision):
            # Looked up again under the writers' lock: another process may have been quicker.
            row = (
                await connection.execute(select(schema.streams).where(schema.streams.c.name == stream.name))
            ).one_or_none()
            if row is not None:
                return stream_info(row)
            info = StreamInfo(stream, retention_days, created_at=self._clock.now_ns())
            await connection.execute(
                insert(schema.streams).values(
                    name=stream.name,
                    stream_id=stream.stream_id,
                    retention_days=info.retention_days,
                    anonymous_reads=info.anonymous_reads,
                    created_at=info.created_at,
                    revision=revision,
                )
            )
        return info

    async def update(
        self, name: str, *, retention_days: int | None = None, anonymous_reads: bool | None = None
    ) -> StreamInfo:
        """Change what is not None. Raises NotFound, InvalidValue, and what a hook raises (then nothing changed)."""
        if retention_days is not None:
            _check_retention(retention_days)
        async with self._changing:
            info = await self.get(name)
            if retention_days is not None and retention_days != info.retention_days:
                info = replace(info, retention_days=retention_days)
                for hook in self._hooks:
                    await hook(info.stream, retention_days)
            if anonymous_reads is not None:
                info = replace(info, anonymous_reads=anonymous_reads)
            async with self._database.write() as (connection, revision):
                await connection.execute(
                    update(schema.streams)
                    .where(schema.streams.c.name == name)
                    .values(retention_days=info.retention_days, anonymous_reads=info.anonymous_reads, revision=revision)
                )
        return info
