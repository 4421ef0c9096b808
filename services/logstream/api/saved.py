"""Saved views over HTTP: everybody's own, and what is shared with every reader of a stream."""

import base64
import binascii
import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from logstream.api.deps import Authorization, Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.times import from_ns
from logstream.auth import saved
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import Action, may, require
from logstream.auth.saved import SavedView, ViewContent
from logstream.errors import Forbidden, InvalidValue, NotFound
from logstream.query.language.parser import parse
from logstream.query.time import format_time, parse_time

PAGE = 100
MAX_PAGE = 1_000

_ETAG = re.compile(r'"([0-9]{1,19})"', re.ASCII)

ViewId = Annotated[str, Path(max_length=64, description="As in the list.", examples=["k3x9a0b1c2d4"])]
IfMatch = Annotated[
    str | None,
    Header(
        max_length=64,
        description="The ETag that the change is based on; 412 when the view was changed since. Left out: any.",
        examples=['"42"'],
    ),
]
_Time = "RFC 3339 or the epoch in s, ms, µs or ns; null: open."


# The limits proper are checked by `logstream.auth.saved`, whose answers name field and limit.
class ViewBody(BaseModel):
    """What a view holds. With none of `since`, `start_time` and `end_time`: the last hour."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "declined cards",
                "query": "service:payment level>=warn declined",
                "since": "24h",
                "columns": ["timestamp", "user_id", "message"],
                "shared": True,
            }
        },
    )
    name: str = Field(description="1 to 100 characters; one owner has no two of the same.", examples=["declined cards"])
    stream: str = Field("default", max_length=50)
    query: str = Field(
        "",
        description=f"In the query language, pipes allowed; at most {saved.MAX_QUERY} characters.",
        examples=["error"],
    )
    since: str | None = Field(None, description="How far back from now: 15m, 2h, 7d.", examples=["24h"])
    start_time: str | None = Field(None, max_length=64, description=f"Not before this: {_Time}")
    end_time: str | None = Field(None, max_length=64, description=f"Not after this: {_Time}")
    columns: list[str] = Field(
        default_factory=list,
        description=f"Fields to show, in order; at most {saved.MAX_COLUMNS}. Empty: the reader's choice.",
        examples=[["timestamp", "message"]],
    )
    description: str = Field("", description=f"At most {saved.MAX_DESCRIPTION} characters.")
    shared: bool = Field(False, description="Let every reader of the stream see it.")


class SavedBody(BaseModel):
    id: str = Field(examples=["k3x9a0b1c2d4"])
    name: str = Field(examples=["declined cards"])
    stream: str = Field(examples=["default"])
    query: str = Field(examples=["service:payment level>=warn declined"])
    has_pipes: bool = Field(description="Ask `/api/v1/query`; otherwise the query is a filter of every read.")
    since: str | None = Field(examples=["24h"])
    start_time: str | None
    end_time: str | None
    columns: list[str]
    description: str
    shared: bool
    owner_id: str
    owner: str | None = Field(description="The e-mail address; null: the account is gone, or no person is asking.")
    mine: bool = Field(description="Whether it is the caller's, or a key's owner's.")
    created_at: datetime
    updated_at: datetime


class SavedList(BaseModel):
    views: list[SavedBody]
    next: str | None = Field(description="`cursor` of the next page; null: this is the last.")


def create_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["saved"], responses=errors(401, 403, 503))

    async def owner_of(caller: Principal) -> str | None:
        """Whose private views the caller sees: a key those of its owner."""
        if caller.kind == "user":
            return caller.id
        return (await accounts.keys.get(caller.id)).owner_id if caller.kind == "key" else None

    async def visible(view_id: str, caller: Principal) -> tuple[SavedView, str | None]:
        """The view and whose eyes see it; NotFound otherwise, so that nobody learns of others' views."""
        view = await accounts.saved.get(view_id)
        owner = await owner_of(caller)
        if (view.owner_id != owner and not view.content.shared) or caller.stream not in (None, view.content.stream):
            raise NotFound("there is no such view", field="view_id")
        return view, owner

    async def changeable(view_id: str, caller: Principal) -> tuple[SavedView, str | None]:
        # Whoever can change nothing at all is told so; everybody else is told of what they see.
        if not may(caller, Action.SHARED_VIEWS):
            require(caller, Action.OWN_VIEWS)
        view, owner = await visible(view_id, caller)
        if view.owner_id != caller.id:
            require(caller, Action.SHARED_VIEWS, stream=view.content.stream)
            if not view.content.shared:
                raise Forbidden("a key changes shared views only", field="view_id")
        return view, owner

    @router.get("/saved", summary="List saved views", responses=errors(400, 404))
    async def list_views(
        caller: Annotated[Principal, Depends(_reader)],
        stream: StreamName = None,
        name: Annotated[
            str | None, Query(max_length=200, description="Only views of this name.", examples=["declined cards"])
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.", examples=[PAGE])] = PAGE,
        cursor: Annotated[
            str | None, Query(max_length=1_000, description="`next` of the page before.", examples=["WyJhIiwieCJd"])
        ] = None,
    ) -> SavedList:
        """The own ones and those shared with the readers of the caller's streams, by name."""
        if stream is not None:
            caller.require(Scope.READ, stream=stream)
        owner = await owner_of(caller)
        found = await accounts.saved.list(
            owner_id=owner,
            stream=stream or caller.stream,
            name=name,
            after=None if cursor is None else _decode(cursor),
            limit=limit + 1,
        )
        page = found[:limit]
        following = _encode(page[-1]) if len(found) > limit else None
        return SavedList(views=[_body(view, caller, owner) for view in page], next=following)

    @router.post("/saved", summary="Save a view", status_code=201, responses=errors(400, 404, 409))
    async def create_view(body: ViewBody, caller: Caller, response: Response) -> SavedBody:
        """The query is parsed: a syntax error is answered with its column."""
        require(caller, Action.OWN_VIEWS)
        gate.stream(body.stream)
        view = await accounts.saved.create(caller.id, _content(body))
        response.headers["ETag"] = _etag(view)
        return _body(view, caller, caller.id)

    @router.get("/saved/{view_id}", summary="One saved view", responses=errors(400, 404))
    async def get_view(
        view_id: ViewId, caller: Annotated[Principal, Depends(_reader)], response: Response
    ) -> SavedBody:
        """With the ETag that a change of it is based on."""
        view, owner = await visible(view_id, caller)
        response.headers["ETag"] = _etag(view)
        return _body(view, caller, owner)

    @router.put("/saved/{view_id}", summary="Change a saved view", responses=errors(400, 404, 409, 412))
    async def change_view(
        view_id: ViewId, body: ViewBody, caller: Caller, response: Response, if_match: IfMatch = None
    ) -> SavedBody:
        """Replace all it holds: what is left out gets its default. Admins change everybody's shared views."""
        view, owner = await changeable(view_id, caller)
        if view.owner_id != caller.id:
            if not body.shared:
                raise Forbidden("only its owner can stop sharing a view", field="shared")
            require(caller, Action.SHARED_VIEWS, stream=body.stream)
        gate.stream(body.stream)
        changed = await accounts.saved.update(view_id, _content(body), revision=_revision(if_match))
        response.headers["ETag"] = _etag(changed)
        return _body(changed, caller, owner)

    @router.delete("/saved/{view_id}", summary="Delete a saved view", status_code=204, responses=errors(400, 404, 412))
    async def delete_view(view_id: ViewId, caller: Caller, if_match: IfMatch = None) -> None:
        """The own ones; admins everybody's shared ones."""
        await changeable(view_id, caller)
        await accounts.saved.delete(view_id, revision=_revision(if_match))

    return router


async def _reader(connection: HTTPConnection, authorization: Authorization, stream: StreamName = None) -> Principal:
    """The caller, who may read logs; nobody in particular where the stream allows anonymous reads."""
    gate = gate_of(connection)
    if authorization is None:
        return gate.anonymous(stream or "default")
    caller = gate.authenticate(authorization)
    require(caller, Action.READ_LOGS)
    return caller


def _content(body: ViewBody) -> ViewContent:
    content = saved.checked(
        ViewContent(
            name=body.name,
            stream=body.stream,
            query=body.query,
            since=body.since,
            start=parse_time(body.start_time, "start_time") if body.start_time else None,
            end=parse_time(body.end_time, "end_time") if body.end_time else None,
            columns=tuple(body.columns),
            description=body.description,
            shared=body.shared,
        )
    )
    return replace(content, has_pipes=bool(parse(content.query).pipes))


def _body(view: SavedView, caller: Principal, owner: str | None) -> SavedBody:
    content = view.content
    return SavedBody(
        id=view.id,
        name=content.name,
        stream=content.stream,
        query=content.query,
        has_pipes=content.has_pipes,
        since=content.since,
        start_time=None if content.start is None else format_time(content.start),
        end_time=None if content.end is None else format_time(content.end),
        columns=list(content.columns),
        description=content.description,
        shared=content.shared,
        owner_id=view.owner_id,
        # Anonymous readers and programs learn nobody's address.
        owner=view.owner if caller.kind == "user" else None,
        mine=view.owner_id == owner,
        created_at=from_ns(view.created_at),
        updated_at=from_ns(view.updated_at),
    )


def _etag(view: SavedView) -> str:
    return f'"{view.revision}"'


def _revision(if_match: str | None) -> int | None:
    """The state that a change is based on; None: any. Raises InvalidValue."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise InvalidValue('If-Match must be one ETag of this view, like "42", or *', field="If-Match")
    return int(found[1])


def _encode(last: SavedView) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.content.name, last.id]).encode()).decode()


def _decode(cursor: str) -> tuple[str, str]:
    try:
        name, view_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise InvalidValue("cursor must be `next` of a list of views", field="cursor") from None
    if not isinstance(name, str) or not isinstance(view_id, str):
        raise InvalidValue("cursor must be `next` of a list of views", field="cursor")
    return name, view_id
