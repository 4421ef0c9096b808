"""The directory of streams: what exists, how long it keeps logs, how much it takes, and who may read it.

Topics and tables are others' business; they register what makes and removes them. The directory is written first and
remembers what is still to be done outside (`pending`), so that a crash in between is healed by whoever looks next:
`heal`. Everything registered must therefore be able to run twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth import schema, validation
from logstream.auth.database import Database
from logstream.auth.keys import new_id
from logstream.auth.principal import Quota
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import Conflict, InvalidValue, LogStreamError, NotFound
from logstream.logs import get_logger
from logstream.stream import Stream, make_stream

MAX_RETENTION_DAYS = 10_950
MAX_STREAMS = 1_000
DEFAULT_STREAM = "default"
REMOVAL_SECONDS = 10
"""From deleting a stream to removing its topic and tables: by then every process has heard of it."""

_MAKE_SECONDS = 20.0
_CREATE, _REMOVE = "create", "remove"

_log = get_logger("auth")


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as the directory knows it.

    created_at: nanoseconds since the epoch. quota: of the whole stream, beside those of its keys. ready: whether its
    topics and tables were made.
    """

    stream: Stream
    retention_days: int
    anonymous_reads: bool = False
    created_at: int = 0
    quota: Quota = field(default_factory=Quota)
    dead_letter_days: int = 30
    ready: bool = True


RetentionHook = Callable[[Stream, int], Awaitable[None]]
"""What takes a stream's new retention in days: `Store.set_retention`."""
CreatedHook = Callable[[StreamInfo], Awaitable[None]]
"""What makes a stream's topics or tables where they are missing."""
DeletedHook = Callable[[Stream], Awaitable[None]]
"""What removes a stream's topics or tables where they are still there."""


def stream_info(row: Row[Any]) -> StreamInfo:
    """A row of `schema.streams`."""
    return StreamInfo(
        Stream(row.name, row.stream_id),
        row.retention_days,
        row.anonymous_reads,
        row.created_at,
        Quota(row.records_per_second, row.bytes_per_second),
        row.dead_letter_days,
        row.pending is None,
    )


def _check_days(days: int, name: str) -> None:
    if not 1 <= days <= MAX_RETENTION_DAYS:
        raise InvalidValue(f"{name} must be 1 to {MAX_RETENTION_DAYS}: {days}", field=name, limit=MAX_RETENTION_DAYS)


def _check(info: StreamInfo) -> StreamInfo:
    _check_days(info.retention_days, "retention_days")
    _check_days(info.dead_letter_days, "dead_letter_days")
    validation.quota(info.quota)
    return info


class Streams:
    """Reads and changes the directory. Every method may raise Unavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._hooks: list[RetentionHook] = []
        self._dead_letter_hooks: list[RetentionHook] = []
        self._created_hooks: list[CreatedHook] = []
        self._deleted_hooks: list[DeletedHook] = []
        self._changing = asyncio.Lock()

    def on_retention_change(self, hook: RetentionHook) -> None:
        """Await `hook` with a stream and its new retention before that is written down.

        What the hook raises refuses the change: so the directory never promises a retention that the store
        did not take.
        """
        self._hooks.append(hook)

    def on_dead_letter_retention_change(self, hook: RetentionHook) -> None:
        """As `on_retention_change`, with the days that dead letters are kept."""
        self._dead_letter_hooks.append(hook)

    def on_created(self, hook: CreatedHook) -> None:
        """Await `hook` with each stream that is made here, right after it was written down; again until it succeeds."""
        self._created_hooks.append(hook)

    def on_deleted(self, hook: DeletedHook) -> None:
        """Await `hook` with each deleted stream, `REMOVAL_SECONDS` later; again until it succeeds.

        Where no hook is registered, topic and tables of a stream that is deleted stay.
        """
        self._deleted_hooks.append(hook)

    async def list(self) -> Sequence[StreamInfo]:
        """All streams by name."""
        table = schema.streams
        query = select(table).where(table.c.deleted_at.is_(None)).order_by(table.c.name)
        async with self._database.read() as connection:
            return [stream_info(row) for row in await connection.execute(query)]

    async def get(self, name: str) -> StreamInfo:
        """Raises NotFound."""
        async with self._database.read() as connection:
            row = await _row(connection, name)
        if row is None or row.deleted_at is not None:
            raise NotFound(f"there is no stream '{name}'", field="stream")
        return stream_info(row)

    async def there(self, stream: Stream) -> bool:
        """Whether this very stream is in the directory, and was not deleted."""
        table = schema.streams
        query = select(func.count()).where(table.c.stream_id == stream.stream_id, table.c.deleted_at.is_(None))
        async with self._database.read() as connection:
            return bool((await connection.execute(query)).scalar_one())

    async def create(
        self,
        name: str,
        *,
        retention_days: int = 30,
        anonymous_reads: bool = False,
        dead_letter_days: int = 30,
        quota: Quota | None = None,
    ) -> StreamInfo:
        """A new stream with an id of its own; `ready` unless its topics and tables could not be made at once.

        Raises InvalidValue for a name that is not 1–50 of a–z, 0–9 and "-", Conflict when there is one, when an
        earlier one of the name is not removed yet, and beyond MAX_STREAMS.
        """
        info = _check(
            StreamInfo(
                make_stream(name, generation=new_id()),
                retention_days,
                anonymous_reads,
                self._clock.now_ns(),
                quota or Quota(),
                dead_letter_days,
                ready=not self._created_hooks,
            )
        )
        async with self._database.write() as (connection, revision):
            row = await _row(connection, name)
            if row is not None and row.deleted_at is None:
                raise Conflict(f"there is a stream '{name}' already", field="name")
            await _put(connection, info, row, revision)
        return info if info.ready else await self._make(info)

    async def ensure(self, stream: Stream, *, retention_days: int = 30, dead_letter_days: int = 30) -> StreamInfo:
        """The stream's entry, made with these days when there is none. Calls no hook.

        Raises Conflict when the name belongs to a stream with another id, or this one was deleted.
        """
        _check_days(retention_days, "retention_days")
        _check_days(dead_letter_days, "dead_letter_days")
        try:
            found = await self.get(stream.name)
        except NotFound:
            found = await self._ensure(stream, retention_days, dead_letter_days)
        if found.stream != stream:
            raise Conflict(f"stream '{stream.name}' exists with the id {found.stream.stream_id}", field="stream")
        return found

    async def _ensure(self, stream: Stream, retention_days: int, dead_letter_days: int) -> StreamInfo:
        async with self._database.write() as (connection, revision):
            # Looked up again under the writers' lock: another process may have been quicker.
            row = await _row(connection, stream.name)
            if row is not None and row.deleted_at is None:
                return stream_info(row)
            if row is not None and row.stream_id == stream.stream_id:
                raise Conflict(f"stream '{stream.name}' with the id {stream.stream_id} was deleted", field="stream")
            info = StreamInfo(
                stream, retention_days, created_at=self._clock.now_ns(), dead_letter_days=dead_letter_days
            )
            await _put(connection, info, row, revision)
        return info

    async def update(
        self,
        name: str,
        *,
        retention_days: int | None = None,
        anonymous_reads: bool | None = None,
        dead_letter_days: int | None = None,
        quota: Quota | None = None,
    ) -> StreamInfo:
        """Change what is not None; a quota is replaced as a whole.

        Raises NotFound, InvalidValue, and what a hook raises (then nothing changed).
        """
        given: dict[str, Any] = {
            "retention_days": retention_days,
            "anonymous_reads": anonymous_reads,
            "dead_letter_days": dead_letter_days,
            "quota": quota,
        }
        changes = {what: value for what, value in given.items() if value is not None}
        async with self._changing:
            before = await self.get(name)
            info = _check(replace(before, **changes))
            for hooks, old, new in (
                (self._hooks, before.retention_days, info.retention_days),
                (self._dead_letter_hooks, before.dead_letter_days, info.dead_letter_days),
            ):
                for hook in hooks if old != new else ():
                    await hook(info.stream, new)
            if quota is not None:
                del changes["quota"]
                changes |= _rates(quota)
            table = schema.streams
            async with self._database.write() as (connection, revision):
                changed = await connection.execute(
                    update(table)
                    .where(table.c.stream_id == info.stream.stream_id, table.c.deleted_at.is_(None))
                    .values(**changes, revision=revision)
                )
                if not changed.rowcount:
                    raise NotFound(f"there is no stream '{name}'", field="stream")
        return info

    async def delete(self, name: str) -> StreamInfo:
        """End a stream: its keys are revoked and its saved views deleted with it, at once.

        What it has stored is removed `REMOVAL_SECONDS` later, for good; until then the name is not free. Raises
        NotFound, Conflict for the stream that everything falls back to.
        """
        if name == DEFAULT_STREAM:
            raise Conflict(
                f"the stream '{DEFAULT_STREAM}' is what is meant where none is named: it stays", field="name"
            )
        now = self._clock.now_ns()
        table = schema.streams
        async with self._database.write() as (connection, revision):
            row = await _row(connection, name)
            if row is None or row.deleted_at is not None:
                raise NotFound(f"there is no stream '{name}'", field="stream")
            await connection.execute(
                update(table)
                .where(table.c.name == name)
                .values(
                    deleted_at=now,
                    anonymous_reads=False,
                    pending=_REMOVE if self._deleted_hooks else None,
                    revision=revision,
                )
            )
            await _end_what_names(connection, name, now, revision)
        return stream_info(row)

    async def forget(self, stream: Stream) -> None:
        """End the entry of a stream whose topics and tables are somebody else's to keep or to remove: its keys are
        revoked, its saved views deleted, no hook is called and the name is free at once. Idempotent.
        """
        now = self._clock.now_ns()
        table = schema.streams
        async with self._database.write() as (connection, revision):
            ended = await connection.execute(
                update(table)
                .where(table.c.stream_id == stream.stream_id, table.c.deleted_at.is_(None))
                .values(deleted_at=now, anonymous_reads=False, pending=None, revision=revision)
            )
            if ended.rowcount:
                await _end_what_names(connection, stream.name, now, revision)

    async def heal(self) -> None:
        """Do what is pending outside the directory, as far as hooks for it are registered here.

        What fails is logged and stays pending.
        """
        table = schema.streams
        wanted = [what for what, hooks in ((_CREATE, self._created_hooks), (_REMOVE, self._deleted_hooks)) if hooks]
        if not wanted:
            return
        async with self._database.read() as connection:
            rows = (await connection.execute(select(table).where(table.c.pending.in_(wanted)))).all()
        due = self._clock.now_ns() - REMOVAL_SECONDS * NS_PER_SECOND
        for row in rows:
            if row.pending == _CREATE:
                await self._make(stream_info(row))
            elif row.deleted_at <= due:
                await self._remove(Stream(row.name, row.stream_id))

    async def _make(self, info: StreamInfo) -> StreamInfo:
        try:
            # Whoever asked for the stream waits for this.
            async with asyncio.timeout(_MAKE_SECONDS):
                for hook in self._created_hooks:
                    await hook(info)
        except Exception as error:
            # Whatever another part raises, the directory goes on, and tries again.
            _log.warning("a stream is not ready yet", stream=info.stream.name, reason=_why(error))
            return info
        await self._done(info.stream, _CREATE)
        return replace(info, ready=True)

    async def _remove(self, stream: Stream) -> None:
        try:
            for hook in self._deleted_hooks:
                await hook(stream)
        except Exception as error:
            _log.warning("a deleted stream is not removed yet", stream=stream.name, reason=_why(error))
            return
        await self._done(stream, _REMOVE)

    async def _done(self, stream: Stream, what: str) -> None:
        table = schema.streams
        async with self._database.write() as (connection, revision):
            await connection.execute(
                update(table)
                .where(table.c.stream_id == stream.stream_id, table.c.pending == what)
                .values(pending=None, revision=revision)
            )


async def _row(connection: AsyncConnection, name: str) -> Row[Any] | None:
    return (await connection.execute(select(schema.streams).where(schema.streams.c.name == name))).one_or_none()


async def _put(connection: AsyncConnection, info: StreamInfo, row: Row[Any] | None, revision: int) -> None:
    """Write a new stream down, in the place of a removed one of the name. Raises Conflict."""
    table = schema.streams
    if row is not None and row.pending == _REMOVE:
        raise Conflict(
            f"an earlier stream '{info.stream.name}' is still being removed: wait until that is done", field="name"
        )
    count = select(func.count()).select_from(table).where(table.c.deleted_at.is_(None))
    if (await connection.execute(count)).scalar_one() >= MAX_STREAMS:
        raise Conflict(f"there are {MAX_STREAMS} streams already", field="name", limit=MAX_STREAMS)
    values = {
        "stream_id": info.stream.stream_id,
        "retention_days": info.retention_days,
        "anonymous_reads": info.anonymous_reads,
        "created_at": info.created_at,
        "dead_letter_days": info.dead_letter_days,
        "pending": None if info.ready else _CREATE,
        "deleted_at": None,
        "revision": revision,
        **_rates(info.quota),
    }
    if row is None:
        await connection.execute(insert(table).values(name=info.stream.name, **values))
    else:
        # Keys and views know a stream by its name: one that was made while the earlier stream was being deleted, by a
        # process that had not heard of it yet, would open this one.
        await _end_what_names(connection, info.stream.name, info.created_at, revision)
        await connection.execute(update(table).where(table.c.name == info.stream.name).values(**values))


async def _end_what_names(connection: AsyncConnection, name: str, now: int, revision: int) -> None:
    """Revoke the keys of a stream and delete its saved views."""
    keys, views = schema.api_keys, schema.saved_views
    await connection.execute(
        update(keys).where(keys.c.stream == name, keys.c.revoked_at.is_(None)).values(revoked_at=now, revision=revision)
    )
    await connection.execute(delete(views).where(views.c.stream == name))


def _why(error: Exception) -> str:
    return error.message if isinstance(error, LogStreamError) else repr(error)


def _rates(quota: Quota) -> dict[str, float | None]:
    return {"records_per_second": quota.records_per_second, "bytes_per_second": quota.bytes_per_second}
