"""The ledger: what became of every accepted line, by API key."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.auth.roles import Action, require
from logstream.bus.protocol import LedgerEntry
from logstream.errors import StoreUnavailable


class Counts(BaseModel):
    accepted: int = Field(description="Lines answered 202, repeats of an Idempotency-Key included.")
    stored: int = Field(description="Written to ClickHouse.")
    deduplicated: int = Field(description="Repeats of an Idempotency-Key; nothing was appended.")
    dead_lettered: int = Field(description="Refused by ClickHouse for good, and kept as dead letters.")
    in_flight: int = Field(description="In the log, not yet stored.")
    present: int | None = Field(
        description="Stored lines that are in ClickHouse now; fewer than `stored` once retention deleted some. "
        "null while ClickHouse is away."
    )


class KeyCounts(Counts):
    key_id: str = Field(description="The API key the lines were sent with.")


class Ledger(BaseModel):
    """accepted = stored + deduplicated + dead_lettered + in_flight, at every moment, for each key and in total."""

    stream: str = Field(examples=["default"])
    balanced: bool = Field(description="Whether the equation holds; false would be a fault of LogStream.")
    total: Counts
    keys: list[KeyCounts]


_TERMS = ("accepted", "stored", "deduplicated", "dead_lettered", "in_flight")


def _balanced(entry: LedgerEntry) -> bool:
    return entry.accepted == entry.stored + entry.deduplicated + entry.dead_lettered + entry.in_flight


def create_router() -> APIRouter:
    """The ledger of one stream."""
    router = APIRouter(prefix="/api/v1", tags=["streams"])

    @router.get("/ledger", summary="What became of every accepted line", responses=errors(400, 401, 403, 404, 503))
    async def ledger(request: Request, caller: Caller, stream: StreamName = None) -> Ledger:
        """Counted since the stream was made. `present` is counted in ClickHouse just before the rest."""
        name = stream or caller.stream or "default"
        require(caller, Action.SEE_STREAMS, stream=name)
        which = gate_of(request).stream(name).stream
        services = services_of(request)
        topic = await services.bus.create_topic(which.topic)
        try:
            present = await services.reader.stored_by_key(which, incarnation=topic.incarnation)
        except StoreUnavailable:
            present = None
        entries = await services.bus.ledger(which.topic)
        keys = [
            KeyCounts(
                key_id=entry.key_id,
                present=None if present is None else present.get(entry.key_id, 0),
                **{term: getattr(entry, term) for term in _TERMS},
            )
            for entry in entries
        ]
        total = Counts(
            present=None if present is None else sum(present.values()),
            **{term: sum(getattr(entry, term) for entry in entries) for term in _TERMS},
        )
        return Ledger(stream=name, balanced=all(map(_balanced, entries)), total=total, keys=keys)

    return router
