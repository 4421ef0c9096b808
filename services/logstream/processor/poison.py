"""A bus record that ClickHouse refuses: its sound rows are stored, the others become dead letters.

Rows are tried in order, fewer at a time after a refusal and more after a success, so one bad row among n costs
about 2·log₂ n INSERTs. What is tried is remembered first, as plans over rows; all rows before a plan's first
one came to their end. So a crash at any point repeats one INSERT under its token, or one letter under its claim.
"""

from collections import Counter
from typing import TYPE_CHECKING

from logstream.bus.protocol import Outcome, Settled, minute_of
from logstream.errors import LogStreamError, StoreRefused, StoreUnavailable
from logstream.processor import rows
from logstream.processor.letter import Letter
from logstream.processor.plan import Item, Plan
from logstream.processor.window import Decision
from logstream.record import Batch
from logstream.storage.block import MalformedBlock, decode, encode, seal

if TYPE_CHECKING:
    from logstream.processor.worker import Worker


class Poison:
    """One refused record of `worker`'s partition."""

    def __init__(self, worker: "Worker", item: Item, decision: Decision) -> None:
        """decision: what the record claims, since it is no repeat."""
        assert item.header is not None
        self._claims = decision.claims
        self._worker = worker
        self._item = item
        self._header = item.header

    async def run(self, *, refused: StoreRefused | None = None, resumed: Plan | None = None) -> None:
        """Bring every row to its end and commit the record.

        refused: why the whole record was. resumed: the plan to begin with, which may be stored already.
        Raises Stopped, Fenced.
        """
        try:
            batch = decode(self._item.payload, self._item.rows)
        except MalformedBlock as error:
            await self._bury_whole(refused or error)
            return
        row, limit, doubtful = 0, max(1, self._item.rows // 2), False
        if resumed is not None and resumed.first_row is not None and resumed.last_row is not None:
            row, limit, doubtful = resumed.first_row, resumed.last_row - resumed.first_row + 1, True
        while row < self._item.rows:
            last = min(row + limit, self._item.rows) - 1
            try:
                await self._insert(batch, row, last, doubtful=doubtful)
            except StoreRefused as error:
                if last > row:
                    limit = (last - row + 1) // 2
                    continue
                await self._bury_row(batch, row, error)
                limit = 1
            else:
                limit *= 2
            doubtful = False
            row = last + 1
        offset = self._item.offset
        await self._worker.commit(Settled(offset, offset, await self._outcomes(), self._claims))

    async def _insert(self, batch: Batch, first: int, last: int, *, doubtful: bool) -> None:
        worker = self._worker
        offset = self._item.offset
        plan = Plan(worker.incarnation, worker.partition, offset, offset, first, last)
        await worker.remember(plan)
        count = last - first + 1
        parts = seal(encode(part(batch, first, last)), count, worker.source(self._item, first, last))
        await worker.insert(plan, parts, count, doubtful=doubtful)

    async def _outcomes(self) -> dict[tuple[str, int], Outcome]:
        """Asked of the store itself, so that a restart in the middle does not matter."""
        worker = self._worker

        async def ask() -> dict[str, int]:
            try:
                return await rows.stored_by_key(
                    worker.store, worker.stream,
                    incarnation=worker.incarnation, partition=worker.partition, offset=self._item.offset,
                )  # fmt: skip
            except LogStreamError as error:
                raise StoreUnavailable(error.message) from error

        stored = await worker.retrying(ask)
        minute = minute_of(self._header.received_at)
        return {
            (key_id, minute): Outcome(stored=stored.get(key_id, 0), dead_lettered=sent - stored.get(key_id, 0))
            for key_id, sent in self._sent().items()
        }

    def _sent(self) -> Counter[str]:
        sent: Counter[str] = Counter()
        for segment in self._header.segments:
            sent[segment.key_id] += segment.rows
        return sent

    async def _bury_row(self, batch: Batch, row: int, error: StoreRefused) -> None:
        worker = self._worker
        [(key_id, _)] = rows.keys_between(self._header.segments, row, row)
        one = part(batch, row, row)
        await worker.send(
            Letter(
                worker.stream.name, worker.incarnation, worker.partition, self._item.offset, row, 1, key_id,
                self._header.received_at, worker.clock.now_ns(), error.message, error.clickhouse_code,
                encode(one), next(iter(one)),
            )
        )  # fmt: skip

    async def _bury_whole(self, error: LogStreamError) -> None:
        """Rows that cannot even be told apart: one letter for all of them."""
        worker = self._worker
        code = error.clickhouse_code if isinstance(error, StoreRefused) else 0
        await worker.send(
            Letter(
                worker.stream.name, worker.incarnation, worker.partition, self._item.offset, None, self._item.rows,
                ",".join(self._sent()), self._header.received_at, worker.clock.now_ns(), error.message, code,
                self._item.value,
            )
        )  # fmt: skip
        minute = minute_of(self._header.received_at)
        outcomes = {(key_id, minute): Outcome(dead_lettered=sent) for key_id, sent in self._sent().items()}
        await worker.commit(Settled(self._item.offset, self._item.offset, outcomes, self._claims))


def part(batch: Batch, first: int, last: int) -> Batch:
    here = slice(first, last + 1)
    return Batch(
        batch.timestamps[here], batch.services[here], batch.levels[here], batch.messages[here],
        batch.metadata[here], batch.trace_ids[here], batch.span_ids[here],
    )  # fmt: skip
