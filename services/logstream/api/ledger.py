"""The ledger: what became of every accepted line, by API key."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.auth.roles import Action, require
from logstream.bus.protocol import LedgerEntry
from logstream.errors import StoreUnavailable
from logstream.letters.ledger import LetterLedger, letter_ledger


class LetterCounts(BaseModel):
    """dead_lettered = waiting + replaying + replayed + discarded + expired. A replayed line is accepted anew."""

    waiting: int = Field(description="Neither replayed nor discarded.")
    replaying: int = Field(description="A replay was begun and is not finished.")
    replayed: int = Field(description="Sent again.")
    discarded: int = Field(description="Settled, and not sent again.")
    expired: int = Field(description="Not kept any more; what waited longer than dead letters are kept.")


class Counts(BaseModel):
    accepted: int = Field(description="Lines answered 202, repeats of an Idempotency-Key included.")
    stored: int = Field(description="Written to ClickHouse.")
    deduplicated: int = Field(description="Repeats of an Idempotency-Key; nothing was appended.")
    dead_lettered: int = Field(description="Refused by ClickHouse for good, and kept as dead letters.")
    dead_letters: LetterCounts = Field(description="What became of those.")
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


def _letter_counts(entry: LedgerEntry, letters: LetterLedger) -> LetterCounts:
    """Letters are counted after the ledger, and each was written before the ledger counted it: there may be more of
    them by now, never fewer."""
    terms = letters.of(entry.key_id)
    gone = max(0, entry.dead_lettered - terms.settled - terms.expired)
    return LetterCounts(
        waiting=terms.waiting, replaying=terms.replaying, replayed=terms.replayed, discarded=terms.discarded,
        expired=terms.expired + gone,
    )  # fmt: skip


def _all_there(entries: Sequence[LedgerEntry], letters: LetterLedger) -> bool:
    """While no letter is gone, each that was counted must be found."""
    return not letters.complete or all(
        entry.dead_lettered <= letters.of(entry.key_id).settled + letters.of(entry.key_id).expired for entry in entries
    )


def _sum(counts: Sequence[LetterCounts]) -> LetterCounts:
    return LetterCounts(**{name: sum(getattr(each, name) for each in counts) for name in LetterCounts.model_fields})


def create_router() -> APIRouter:
    """The ledger of one stream."""
    router = APIRouter(prefix="/api/v1", tags=["streams"])

    @router.get("/ledger", summary="What became of every accepted line", responses=errors(400, 401, 403, 404, 503))
    async def ledger(request: Request, caller: Caller, stream: StreamName = None) -> Ledger:
        """Counted since the stream was made. `present` is counted in ClickHouse just before the rest."""
        name = stream or caller.stream or "default"
        require(caller, Action.SEE_STREAMS, stream=name)
        info = gate_of(request).stream(name)
        which = info.stream
        services = services_of(request)
        topic = await services.bus.create_topic(which.topic)
        try:
            present = await services.reader.stored_by_key(which, incarnation=topic.incarnation)
        except StoreUnavailable:
            present = None
        entries = await services.bus.ledger(which.topic)
        letters = await letter_ledger(
            services.letters.of(which).box, retained_from=services.letters.retained_from(info.dead_letter_days)
        )
        keys = [
            KeyCounts(
                key_id=entry.key_id,
                present=None if present is None else present.get(entry.key_id, 0),
                dead_letters=_letter_counts(entry, letters),
                **{term: getattr(entry, term) for term in _TERMS},
            )
            for entry in entries
        ]
        total = Counts(
            present=None if present is None else sum(present.values()),
            dead_letters=_sum([key.dead_letters for key in keys]),
            **{term: sum(getattr(entry, term) for entry in entries) for term in _TERMS},
        )
        return Ledger(
            stream=name, balanced=all(map(_balanced, entries)) and _all_there(entries, letters), total=total, keys=keys
        )

    return router
