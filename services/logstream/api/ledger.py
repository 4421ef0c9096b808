"""The ledger: what became of every accepted line, by API key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.api.parameters import StreamName
from logstream.api.services import services_of
from logstream.api.times import optional_from_ns
from logstream.auth.roles import Action, require
from logstream.bus.known import known_topic
from logstream.bus.protocol import NS_PER_MINUTE, LedgerEntry, minute_of
from logstream.errors import InvalidValue, StoreUnavailable
from logstream.letters.ledger import LetterLedger, letter_ledger
from logstream.query.time import MAX_NS, parse_time

_TIME = "RFC 3339 or the epoch."


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
    start_time: datetime | None = Field(
        description="Of lines received from then on: `start_time` rounded down to a minute. null: no bound."
    )
    end_time: datetime | None = Field(
        description="Of lines received before: `end_time` rounded up to a minute. null: no bound."
    )
    balanced: bool = Field(description="Whether the equation holds; false would be a fault of LogStream.")
    total: Counts
    keys: list[KeyCounts]


_TERMS = ("accepted", "stored", "deduplicated", "dead_lettered", "in_flight")


def _balanced(entry: LedgerEntry) -> bool:
    return entry.accepted == entry.stored + entry.deduplicated + entry.dead_lettered + entry.in_flight


def _range(start_time: str | None, end_time: str | None) -> tuple[int | None, int | None]:
    """Whole minutes in ns that hold the time asked for. Raises InvalidValue."""
    start = parse_time(start_time, "start_time") if start_time else None
    end = parse_time(end_time, "end_time") if end_time else None
    if start is not None and end is not None and start > end:
        raise InvalidValue("start_time must not lie after end_time", field="start_time", limit=end_time)
    # Nothing was received before 1970, and what follows the calendar's last minute does not fit.
    last = MAX_NS // NS_PER_MINUTE * NS_PER_MINUTE
    return (
        None if start is None else max(0, start) // NS_PER_MINUTE * NS_PER_MINUTE,
        None if end is None else min(last, -(-max(0, end) // NS_PER_MINUTE) * NS_PER_MINUTE),
    )


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
    async def ledger(
        request: Request,
        caller: Caller,
        stream: StreamName = None,
        start_time: Annotated[
            str | None,
            Query(max_length=64, description=f"Of lines received no earlier: {_TIME}", examples=["1769860800"]),
        ] = None,
        end_time: Annotated[
            str | None, Query(max_length=64, description=f"Of lines received before: {_TIME}", examples=["1769947200"])
        ] = None,
    ) -> Ledger:
        """Counted since the stream was made, or of the lines that were received in a time, by whole minutes: the
        answer says which. `present` is counted in ClickHouse just before the rest.
        """
        start, end = _range(start_time, end_time)
        name = stream or caller.stream or "default"
        require(caller, Action.SEE_STREAMS, stream=name)
        info = gate_of(request).stream(name)
        which = info.stream
        services = services_of(request)
        topic = await known_topic(services.bus, which.topic)
        try:
            present = await services.reader.stored_by_key(which, incarnation=topic.incarnation, start=start, end=end)
        except StoreUnavailable:
            present = None
        entries = await services.bus.ledger(which.topic, start=start, end=end)
        letters = await letter_ledger(
            services.letters.of(which).box,
            retained_from=services.letters.retained_from(info.dead_letter_days),
            start_minute=None if start is None else minute_of(start),
            end_minute=None if end is None else minute_of(end),
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
            stream=name, start_time=optional_from_ns(start), end_time=optional_from_ns(end),
            balanced=all(map(_balanced, entries)) and _all_there(entries, letters), total=total, keys=keys,
        )  # fmt: skip

    return router
