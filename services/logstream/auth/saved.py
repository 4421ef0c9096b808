"""Saved views: questions that somebody keeps under a name, for themselves or for every reader of the stream."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from logstream.auth import schema, validation
from logstream.auth.database import Database
from logstream.auth.keys import new_id
from logstream.clock import Clock
from logstream.errors import Conflict, InvalidValue, NotFound, PreconditionFailed

MAX_VIEWS = 1_000
"""Views of one owner."""
MAX_QUERY = 4_096
MAX_DESCRIPTION = 1_000
MAX_COLUMNS = 50
MAX_COLUMN = 200
"""Characters, as all limits of texts here."""

_SINCE = re.compile(r"([1-9]\d{0,5})(s|m|h|d|w)", re.ASCII)
# Neither database can keep these: NUL ends a text in Postgres, lone surrogates have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ViewContent:
    """What the owner of a view chooses.

    query: text of the query language, which has_pipes tells from a mere filter; whoever saves has parsed it.
    since: how far back from now, as "15m", "2h", "7d"; start, end: a fixed period instead, nanoseconds since the
    epoch, each may be open. None of them: whatever the reader's default is. columns: fields to show, in order.
    """

    name: str
    stream: str
    query: str = ""
    has_pipes: bool = False
    since: str | None = None
    start: int | None = None
    end: int | None = None
    columns: tuple[str, ...] = ()
    description: str = ""
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SavedView:
    """A view. Times: nanoseconds since the epoch. revision: another one after each change.

    owner: the owner's e-mail address, None when that account is gone.
    """

    id: str
    owner_id: str
    owner: str | None
    content: ViewContent
    created_at: int
    updated_at: int
    revision: int


def checked(content: ViewContent) -> ViewContent:
    """`content` as it is kept. Raises InvalidValue naming field and limit."""
    if content.since is not None:
        if content.start is not None or content.end is not None:
            raise InvalidValue("give since, or start_time and end_time, not both", field="since")
        if not _SINCE.fullmatch(content.since):
            raise InvalidValue(
                "since must be a whole number of at most 6 digits and s, m, h, d or w, like 15m or 2h", field="since"
            )
    if content.start is not None and content.end is not None and content.start > content.end:
        raise InvalidValue("start_time must not lie after end_time", field="start_time")
    if len(content.columns) > MAX_COLUMNS:
        raise InvalidValue(
            f"columns may hold {MAX_COLUMNS} names, not {len(content.columns)}", field="columns", limit=MAX_COLUMNS
        )
    for column in content.columns:
        if not column.strip():
            raise InvalidValue("columns must not hold an empty name", field="columns")
        _check_text(column, "columns", MAX_COLUMN)
    _check_text(content.query, "query", MAX_QUERY)
    _check_text(content.description, "description", MAX_DESCRIPTION)
    return replace(content, name=validation.name(content.name))


def _check_text(text: str, field: str, limit: int) -> None:
    if len(text) > limit:
        raise InvalidValue(f"{field} must not be longer than {limit} characters", field=field, limit=limit)
    if _UNSTORABLE.search(text):
        raise InvalidValue(f"{field} must not have NUL or lone surrogates", field=field)


class SavedViews:
    """Keeps views; who may do what is decided by the caller. Every method may raise Unavailable."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, owner_id: str, content: ViewContent) -> SavedView:
        """A new view. Raises InvalidValue, Conflict for a name the owner has already and beyond MAX_VIEWS."""
        content = checked(content)
        table, now, view_id = schema.saved_views, self._clock.now_ns(), new_id()
        count = select(func.count()).select_from(table).where(table.c.owner_id == owner_id)
        try:
            async with self._database.write() as (connection, revision):
                # Writers come one after another, so that the count still holds when the row is there.
                if (await connection.execute(count)).scalar_one() >= MAX_VIEWS:
                    raise Conflict(f"one account has at most {MAX_VIEWS} views", field="name", limit=MAX_VIEWS)
                await connection.execute(
                    insert(table).values(
                        id=view_id,
                        owner_id=owner_id,
                        created_at=now,
                        updated_at=now,
                        revision=revision,
                        **_values(content),
                    )
                )
                return await _find(connection, view_id)
        except IntegrityError as error:
            raise _taken(content) from error

    async def get(self, view_id: str) -> SavedView:
        """Raises NotFound."""
        async with self._database.read() as connection:
            return await _find(connection, view_id)

    async def list(
        self,
        *,
        owner_id: str | None,
        stream: str | None = None,
        name: str | None = None,
        after: tuple[str, str] | None = None,
        limit: int,
    ) -> Sequence[SavedView]:
        """At most `limit` views by name and id: those of `owner_id` (None: nobody's) and all shared ones.

        stream, name: only these. after: name and id of the last view seen.
        """
        for text in (name, *(after or ())):
            _check_text(text or "", "name" if text is name else "cursor", 1_000)
        table = schema.saved_views
        visible: ColumnElement[bool] = table.c.shared.is_(True)
        if owner_id is not None:
            visible = or_(table.c.owner_id == owner_id, visible)
        query = _SELECT.where(visible).order_by(table.c.name, table.c.id).limit(limit)
        if stream is not None:
            query = query.where(table.c.stream == stream)
        if name is not None:
            query = query.where(table.c.name == name)
        if after is not None:
            last_name, last_id = after
            query = query.where(or_(table.c.name > last_name, and_(table.c.name == last_name, table.c.id > last_id)))
        async with self._database.read() as connection:
            return [_view(row) for row in await connection.execute(query)]

    async def update(self, view_id: str, content: ViewContent, *, revision: int | None = None) -> SavedView:
        """Replace what `view_id` holds; owner and id stay.

        revision: the state this change is of; None: whatever is there. Raises NotFound, InvalidValue,
        PreconditionFailed when somebody was quicker, Conflict for a name that the owner has already.
        """
        content = checked(content)
        table = schema.saved_views
        try:
            async with self._database.write() as (connection, new_revision):
                await _find(connection, view_id, revision)
                await connection.execute(
                    update(table)
                    .where(table.c.id == view_id)
                    .values(updated_at=self._clock.now_ns(), revision=new_revision, **_values(content))
                )
                return await _find(connection, view_id)
        except IntegrityError as error:
            raise _taken(content) from error

    async def delete(self, view_id: str, *, revision: int | None = None) -> None:
        """Raises NotFound, PreconditionFailed (see `update`)."""
        async with self._database.write() as (connection, _):
            await _find(connection, view_id, revision)
            await connection.execute(delete(schema.saved_views).where(schema.saved_views.c.id == view_id))


async def delete_private(connection: AsyncConnection, owner_id: str) -> None:
    """Delete what `owner_id` shared with nobody."""
    table = schema.saved_views
    await connection.execute(delete(table).where(table.c.owner_id == owner_id, table.c.shared.is_(False)))


# An account that was deleted keeps its row, without an address.
_SELECT = select(schema.saved_views, schema.users.c.email).join(
    schema.users, schema.users.c.id == schema.saved_views.c.owner_id, isouter=True
)


async def _find(connection: AsyncConnection, view_id: str, revision: int | None = None) -> SavedView:
    row = (await connection.execute(_SELECT.where(schema.saved_views.c.id == view_id))).one_or_none()
    if row is None:
        raise NotFound("there is no such view", field="view_id")
    if revision is not None and row.revision != revision:
        raise PreconditionFailed("the view was changed since: read it again and repeat the change", field="If-Match")
    return _view(row)


def _view(row: Row[Any]) -> SavedView:
    # `Row` has attributes of its own, so columns are taken from its mapping.
    found = row._mapping
    content = ViewContent(
        name=found["name"],
        stream=found["stream"],
        query=found["query"],
        has_pipes=found["has_pipes"],
        since=found["since"],
        start=found["start_time"],
        end=found["end_time"],
        columns=tuple(json.loads(found["columns"])),
        description=found["description"],
        shared=found["shared"],
    )
    return SavedView(
        found["id"],
        found["owner_id"],
        found["email"],
        content,
        found["created_at"],
        found["updated_at"],
        found["revision"],
    )


def _values(content: ViewContent) -> dict[str, object]:
    return {
        "name": content.name,
        "stream": content.stream,
        "query": content.query,
        "has_pipes": content.has_pipes,
        "since": content.since,
        "start_time": content.start,
        "end_time": content.end,
        "columns": json.dumps(content.columns),
        "description": content.description,
        "shared": content.shared,
    }


def _taken(content: ViewContent) -> Conflict:
    return Conflict(f"its owner has a view called '{content.name}' already", field="name")
