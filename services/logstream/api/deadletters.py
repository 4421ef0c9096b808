"""Dead letters: accepted lines that ClickHouse will never take. Found, looked into, replayed, discarded."""

import re
from collections import Counter
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from logstream.api.deadletter_bodies import (
    MAX_PAGE,
    DeadLetter,
    DeadLetterPage,
    DiscardRequest,
    Disposed,
    FilterBody,
    ReplayRequest,
    Selection,
    changes_of,
    render,
    render_record,
)
from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.auth.principal import Principal
from logstream.auth.roles import Action, require
from logstream.auth.streams import StreamInfo
from logstream.errors import InvalidValue
from logstream.letters import search
from logstream.letters.boxes import Letters
from logstream.letters.edit import Changes
from logstream.letters.format import LetterId, raw_of
from logstream.letters.replay import Operation, Result
from logstream.letters.search import LetterFilter
from logstream.query.time import parse_time

_ID = re.compile(r"(\d{1,5})-(\d{1,18})", re.ASCII)
_REPLAYABLE = ("waiting", "replaying")

_IdText = Annotated[str, Path(max_length=32, description="As in the list.", examples=["0-17"])]


def _parse_id(text: str, field: str = "id") -> LetterId:
    found = _ID.fullmatch(text)
    if found is None:
        raise InvalidValue(f"{field} must be the id of a dead letter, such as 0-17: {text[:40]!r}", field=field)
    return LetterId(int(found[1]), int(found[2]))


def _filter(given: FilterBody, default: tuple[str, ...]) -> LetterFilter:
    """Raises InvalidValue."""
    start = parse_time(given.start_time, "start_time") if given.start_time else None
    end = parse_time(given.end_time, "end_time") if given.end_time else None
    if start is not None and end is not None and start > end:
        raise InvalidValue("start_time must not lie after end_time", field="start_time", limit=given.end_time)
    states = [name for text in given.state for name in text.split(",") if name] or list(default)
    for name in states:
        if name not in search.STATES:
            known = ", ".join(sorted(search.STATES))
            raise InvalidValue(f"state must be one of {known}: {name[:32]!r}", field="state", limit=known)
    wanted = LetterFilter(
        text=given.search, services=tuple(name for text in given.service for name in text.split(",") if name),
        key_id=given.key or None, code=given.code, states=frozenset(states),
    )  # fmt: skip
    return LetterFilter(
        wanted.text, wanted.services, wanted.key_id, wanted.code, wanted.states,
        0 if start is None else max(0, start // 10**9),
        wanted.died_to if end is None else max(0, min(wanted.died_to, end // 10**9)),
    )  # fmt: skip


class _Target:
    """One stream's letters, for a caller who has the right to them."""

    def __init__(self, request: Request, caller: Principal, name: str | None, action: Action) -> None:
        name = name or caller.stream or "default"
        require(caller, action, stream=name)
        self.info: StreamInfo = gate_of(request).stream(name)
        boxes = services_of(request).letters
        self.letters: Letters = boxes.of(self.info.stream)
        self.retained_from = boxes.retained_from(self.info.dead_letter_days)

    async def select(self, selection: Selection) -> tuple[list[LetterId], str | None]:
        """The letters that a request names or describes, and where the next ones begin."""
        if (selection.ids is None) == (selection.filter is None):
            raise InvalidValue("give either ids or filter", field="ids")
        if selection.ids is not None:
            return [_parse_id(text, "ids") for text in dict.fromkeys(selection.ids)], None
        assert selection.filter is not None
        page = await search.page(
            self.letters.box, _filter(selection.filter, _REPLAYABLE), limit=selection.limit,
            retained_from=self.retained_from, cursor=selection.cursor,
        )  # fmt: skip
        return [letter.id for letter in page.letters], page.cursor

    def operation(self, caller: Principal, changes: Changes | None = None, *, force: bool = False) -> Operation:
        return Operation(f"{caller.kind} {caller.name}", changes or Changes(), force, self.retained_from)


def create_router() -> APIRouter:
    """Dead letters of one stream."""
    router = APIRouter(prefix="/api/v1", tags=["dead letters"])

    @router.get(
        "/deadletters",
        summary="List dead letters, newest first",
        responses={200: {"model": DeadLetterPage}, **errors(400, 401, 403, 404, 503)},
    )
    async def deadletters(
        request: Request,
        caller: Caller,
        *,
        stream: StreamName = None,
        search_text: Annotated[
            str,
            Query(alias="search", max_length=1_024, description="Text in message or reason.", examples=["too large"]),
        ] = "",
        service: Annotated[
            list[str] | None, Query(description="Service names, separated by commas.", examples=["payment"])
        ] = None,
        key: Annotated[str, Query(max_length=255, description="The API key's id.", examples=["k3x9a0b1c2d4"])] = "",
        code: Annotated[int | None, Query(description="ClickHouse's exception code.", examples=[469])] = None,
        state: Annotated[
            list[str] | None,
            Query(
                description="waiting, replaying, replayed, discarded, expired, separated by commas. Default: all.",
                examples=["waiting"],
            ),
        ] = None,
        start_time: Annotated[
            str | None,
            Query(
                max_length=64, description="Died no earlier: RFC 3339 or the epoch.", examples=["2026-01-31T12:00:00Z"]
            ),
        ] = None,
        end_time: Annotated[
            str | None,
            Query(
                max_length=64, description="Died no later: RFC 3339 or the epoch.", examples=["2026-01-31T13:00:00Z"]
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="At most this many.", examples=[50])] = 50,
        cursor: Annotated[
            str | None, Query(max_length=16_384, description="The `next` of the page before.", examples=["AQk7…"])
        ] = None,
    ) -> Response:
        """Lines that were accepted and that ClickHouse refused for good, with the reason and what became of them."""
        target = _Target(request, caller, stream, Action.SEE_DEAD_LETTERS)
        given = FilterBody(
            search=search_text, service=service or [], key=key, code=code, state=state or [], start_time=start_time,
            end_time=end_time,
        )  # fmt: skip
        box = target.letters.box
        page = await search.page(
            box, _filter(given, tuple(search.STATES)), limit=limit, retained_from=target.retained_from,
            cursor=cursor or None,
        )  # fmt: skip
        rows = [
            # Few letters are replays, and only theirs is a chain to follow.
            await box.whole(found.id, died_from=target.retained_from) if found.previous else found
            for found in page.letters
        ]
        answer = {"deadletters": [render(found) for found in rows], "next": page.cursor, "scanned": page.scanned}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @router.get(
        "/deadletters/{id}",
        summary="One dead letter, with its bytes",
        responses={200: {"model": DeadLetter}, **errors(400, 401, 403, 404, 503)},
    )
    async def deadletter(request: Request, caller: Caller, id: _IdText, stream: StreamName = None) -> Response:  # noqa: A002
        """As in the list, and the bytes that ClickHouse refused."""
        target = _Target(request, caller, stream, Action.SEE_DEAD_LETTERS)
        letter = _parse_id(id)
        await target.letters.box.fresh()
        found = await target.letters.box.whole(letter, died_from=target.retained_from)
        return Response(msgspec.json.encode(render(found, raw=True)), media_type="application/json")

    @router.get(
        "/deadletters/{id}/raw",
        summary="The bytes of a dead letter",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **errors(400, 401, 403, 404, 503)},
    )
    async def raw(request: Request, caller: Caller, id: _IdText, stream: StreamName = None) -> Response:  # noqa: A002
        """As they stood in the log: a block's body (docs/storage.md), or a whole record that cannot be read."""
        target = _Target(request, caller, stream, Action.SEE_DEAD_LETTERS)
        letter = _parse_id(id)
        await target.letters.box.fresh()
        found = await target.letters.box.whole(letter)
        name = f"deadletter-{target.info.stream.name}-{letter}.bin"
        return Response(
            raw_of(found.message.value), media_type="application/octet-stream",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )  # fmt: skip

    @router.post(
        "/deadletters/replay",
        summary="Send dead letters again, exactly once",
        responses=errors(400, 401, 403, 404, 503),
    )
    async def replay(request: Request, caller: Caller, body: ReplayRequest, stream: StreamName = None) -> Disposed:
        """Each letter goes through the pipeline as a line of its own key with its own time, changed as `set` and
        `drop_metadata` say. One that is refused again becomes a letter of its own. `outcome` tells each one's fate.
        """
        target = _Target(request, caller, stream, Action.CHANGE_DEAD_LETTERS)
        changes = changes_of(body)
        changes.check(services_of(request).settings.limits)
        ids, following = await target.select(body)
        operation = target.operation(caller, changes, force=body.force)
        replayer = target.letters.replayer
        if body.dry_run:
            previews = await replayer.preview(ids, operation)
            return _disposed(target, [result for result, _ in previews], following, dry_run=True).model_copy(
                update={"records": {str(result.id): render_record(row) for result, row in previews if row}}
            )
        return _disposed(target, await replayer.replay(ids, operation), following)

    @router.post(
        "/deadletters/discard", summary="Settle dead letters nobody wants", responses=errors(400, 401, 403, 404, 503)
    )
    async def discard(request: Request, caller: Caller, body: DiscardRequest, stream: StreamName = None) -> Disposed:
        """They stay to be seen until their retention ends, and cannot be replayed any more."""
        target = _Target(request, caller, stream, Action.CHANGE_DEAD_LETTERS)
        ids, following = await target.select(body)
        operation = target.operation(caller, force=body.force)
        replayer = target.letters.replayer
        if body.dry_run:
            return _disposed(target, await replayer.would_discard(ids, operation), following, dry_run=True)
        return _disposed(target, await replayer.discard(ids, operation), following)

    return router


def _disposed(target: _Target, results: list[Result], following: str | None, *, dry_run: bool = False) -> Disposed:
    return Disposed.model_validate(
        {
            "stream": target.info.stream.name,
            "dry_run": dry_run,
            "counts": dict(Counter(result.outcome for result in results)),
            "results": [
                {"id": str(result.id), "outcome": result.outcome, "detail": result.detail, "offset": result.offset}
                for result in results
            ],
            "next": following,
        }
    )
