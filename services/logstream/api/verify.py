"""`POST /api/v1/ledger/verify`: count records, rows and dead letters, and hold the ledger against them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.api.times import from_ns, optional_from_ns
from logstream.audit import Auditor, Report
from logstream.auth.roles import Action, require
from logstream.errors import LogStreamError, TooMany
from logstream.logs import get_logger

_TELL_SECONDS = 0.5

_log = get_logger("api")


class Finding(BaseModel):
    kind: str = Field(
        description="lost: accepted, and neither stored nor a dead letter; doubled: there more than once; stray: "
        "stored without having been accepted; ledger: a counter says something else.",
        examples=["lost"],
    )
    rows: int
    partition: int = Field(description="Of the log; -1: not about one record.")
    offset: int = Field(description="Of the record; -1: not about one record.")
    detail: str


class Verification(BaseModel):
    """What was counted, and whether the books balance."""

    stream: str
    balanced: bool = Field(description="Nothing is lost, doubled, stray or miscounted.")
    complete: bool = Field(description="The log still has every record that was ever accepted.")
    start: datetime | None = Field(description="The ledger was held against records received from then on; null: all.")
    end: datetime = Field(description="… and before this: minutes that are over.")
    partitions: int
    records: int = Field(description="Records of the log that were read.")
    accepted: int = Field(description="Lines in them.")
    stored: int = Field(description="… that are in ClickHouse, each counted once.")
    deduplicated: int = Field(description="… of repeats that the processor dropped.")
    dead_lettered: int = Field(description="… that are dead letters.")
    in_flight: int = Field(description="… that waited when the count began.")
    expired: int = Field(description="… that are older than lines are kept, and gone.")
    letters_gone: int = Field(description="… that are not stored, of a time whose dead letters are not kept any more.")
    lost: int
    doubled: int
    stray: int
    ledger: int = Field(description="Lines by which counters of the ledger are wrong.")
    problems: list[Finding] = Field(description="The first hundred.")


def _answer(report: Report) -> Verification:
    fields: dict[str, Any] = asdict(report)
    fields |= {"start": optional_from_ns(report.start), "end": from_ns(report.end)}
    return Verification(balanced=report.balanced, **fields)


def create_router() -> APIRouter:
    """Verification of one stream; one at a time in a process."""
    router = APIRouter(prefix="/api/v1", tags=["streams"])
    running = asyncio.Lock()

    @router.post(
        "/ledger/verify",
        summary="Prove that the ledger is right",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
                "description": "Lines of JSON: `{\"records\": …, \"of\": …}` while it counts, and last "
                "`{\"verification\": …}` or `{\"error\": …}`.",
            },
            **errors(400, 401, 403, 404, 429, 503),
        },
    )  # fmt: skip
    async def verify(request: Request, caller: Caller, stream: StreamName = None) -> StreamingResponse:
        """Reads every record that the log still has, the rows of each in ClickHouse, and the dead letters. It may run
        on a live installation."""
        name = stream or caller.stream or "default"
        require(caller, Action.SEE_DEAD_LETTERS, stream=name)
        info = gate_of(request).stream(name)
        services = services_of(request)
        busy = TooMany("another verification is running; try again when it has ended", retry_after=10)
        if running.locked():
            raise busy
        auditor = Auditor(
            services.bus, services.store, services.clock,
            idempotency_seconds=services.idempotency_seconds,
        )  # fmt: skip
        seen = [0, 0]

        def progress(records: int, total: int) -> None:
            seen[:] = records, total

        async def lines() -> AsyncIterator[bytes]:
            if running.locked():
                # Two asked in the same moment: the second one is told, too, instead of waiting in silence.
                yield msgspec.json.encode({"error": {"code": busy.code, "message": busy.message}}) + b"\n"
                return
            async with running:
                work = asyncio.create_task(
                    auditor.audit(info.stream, retention_days=info.retention_days, progress=progress)
                )
                try:
                    while not (await asyncio.wait({work}, timeout=_TELL_SECONDS))[0]:
                        yield msgspec.json.encode({"records": seen[0], "of": seen[1]}) + b"\n"
                    yield msgspec.json.encode({"verification": _answer(work.result()).model_dump(mode="json")}) + b"\n"
                except LogStreamError as error:
                    yield msgspec.json.encode({"error": {"code": error.code, "message": error.message}}) + b"\n"
                except Exception:
                    _log.exception("verification failed", stream=name)
                    failure = {"code": "internal", "message": "an unexpected error; the API's log has it"}
                    yield msgspec.json.encode({"error": failure}) + b"\n"
                finally:
                    work.cancel()
                    with suppress(asyncio.CancelledError, Exception):
                        await work

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return router
