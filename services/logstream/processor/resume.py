"""Where the next owner of a partition goes on: from what was committed, and what the store says about it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from logstream.bus.protocol import Committed, Outcome, Settled
from logstream.errors import LogStreamError, StoreUnavailable
from logstream.processor import rows
from logstream.processor.plan import Item, Plan, idle, remembered
from logstream.processor.poison import Poison
from logstream.processor.retry import Backoff, Stopped
from logstream.settings import MIB

if TYPE_CHECKING:
    from logstream.processor.worker import Worker

_READ_BYTES = 8 * MIB


async def resume(worker: "Worker") -> None:
    """Take over `worker`'s partition: finish a remembered plan. Raises Stopped, Fenced."""
    position = await worker.retrying(lambda: worker.consumer.committed(worker.partition))
    try:
        memory = remembered(position.metadata, worker.partition)
    except ValueError as error:
        # A later version's, or somebody else's: whatever it says, guessing could double rows.
        worker.waits("position_cannot_be_read", f"{error}; upgrade this processor, or commit the offset without it")
        await worker.stop.wait()
        raise Stopped from error
    plan = memory.plan
    if memory.incarnation is None:
        position = await _without_memory(worker, position)
    elif memory.incarnation != worker.incarnation:
        # The topic was made anew: offsets began at 0 again, and the plan speaks of other records. Or a late commit
        # brought the earlier one back, and the data know better.
        worker.log.warning("position_of_an_earlier_topic", incarnation=memory.incarnation)
        position, plan = await _without_memory(worker, Committed(0)), None
    worker.intake.position = position.offset
    if plan is not None:
        await _finish(worker, plan)


async def _without_memory(worker: "Worker", position: Committed) -> Committed:
    """A group that never committed, or whose position was lost or moved by hand: the data know better.

    Ranges were stored in order, each as a whole, so that everything up to the last stored offset came to its end
    or is part of the one INSERT that was not recorded; up to there everything is looked up before it is sent.
    """
    deduplication = worker.shared.deduplication
    if deduplication is None:
        # The bus keeps positions as safe as records.
        return position
    topic = worker.consumer.topic
    settled = await worker.retrying(lambda: deduplication.journal.settled_to(topic, worker.partition))
    first = max(position.offset, 0 if settled is None else settled + 1)
    stored = await worker.retrying(lambda: _last_stored(worker, first))
    if first > position.offset:
        worker.log.warning("position_restored", committed=position.offset, settled=first - 1, stored=stored)
    if stored is not None:
        worker.doubtful_to = stored
    return Committed(first)


async def _last_stored(worker: "Worker", first: int) -> int | None:
    try:
        return await rows.last_stored(
            worker.store, worker.stream, incarnation=worker.incarnation, partition=worker.partition, first=first
        )
    except LogStreamError as error:
        raise StoreUnavailable(error.message) from error


async def _finish(worker: "Worker", plan: Plan) -> None:
    """Bring a remembered plan to its end."""
    items = await _planned_items(worker, plan)
    if any(item.newer for item in items):
        # A later version planned it: without that record's rows it would be another INSERT under the same token.
        await worker.intake.newer()
    # Proves that the partition is still ours, before anything is sent for it.
    await worker.remember(plan)
    if not items or items[0].offset != plan.first:
        await _finish_without_records(worker, plan, items)
    elif plan.first_row is not None and not items[0].reason:
        decision = await worker.decide(plan, items[:1])
        await Poison(worker, items[0], decision).run(resumed=plan)
        worker.intake.forget(1)
    else:
        await worker.store_range(plan, items, doubtful=True)


async def _planned_items(worker: "Worker", plan: Plan) -> Sequence[Item]:
    """The very records of a remembered plan, as far as the log still has them."""
    intake = worker.intake
    backoff = Backoff(worker.shared.settings.retry_seconds, worker.stop)
    while intake.position <= plan.last:
        if not await intake.read(_READ_BYTES) and intake.position <= plan.last:
            await backoff.pause()
    return intake.items[: sum(item.offset <= plan.last for item in intake.items)]


async def _finish_without_records(worker: "Worker", plan: Plan, items: Sequence[Item]) -> None:
    """The log lost records of the plan. When they were stored before, the table knows what became of them;
    otherwise they are gone, and those that are left are planned anew."""
    if not await worker.retrying(lambda: worker.contains(plan)):
        worker.log.error("planned_records_lost", first=plan.first, last=plan.last, left=len(items))
        await worker.commit_position(Committed(items[0].offset if items else plan.last + 1, idle(worker.incarnation)))
        return
    stored = await worker.retrying(lambda: _stored_between(worker, plan))
    counts = {cell: Outcome(stored=count) for cell, count in stored.items()}
    await worker.commit(Settled(plan.first, plan.last, counts))
    worker.intake.forget(len(items))


async def _stored_between(worker: "Worker", plan: Plan) -> Counter[tuple[str, int]]:
    try:
        return await rows.stored_between(worker.store, worker.stream, plan)
    except LogStreamError as error:
        raise StoreUnavailable(error.message) from error
