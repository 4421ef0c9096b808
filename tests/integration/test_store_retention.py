"""Retention: what is kept, for how long, and how it changes while running."""

import asyncio
import time

import pytest
from tests.integration.test_store import DAY_NS, count, record, sealed, store, stream

from logstream.errors import InvalidValue
from logstream.storage import schema
from logstream.storage.store import Store
from logstream.stream import Stream

pytestmark = pytest.mark.engine
__all__ = ["store", "stream"]


async def settled(store: Store, stream: Stream, expected: int) -> int:
    """The number of rows once it is `expected`, or after 20 s."""
    for _ in range(200):
        if (found := await count(store, stream)) == expected:
            break
        await asyncio.sleep(0.1)
    return found


async def mutations(store: Store, stream: Stream) -> int:
    sql = "SELECT count() FROM system.mutations WHERE database = {d:String}"
    return int((await store.query(sql, {"d": stream.database})).rows[0][0])


async def test_setting_what_is_set_touches_no_part(store: Store, stream: Stream) -> None:
    assert await store.retention(stream) == 10_000
    before = await mutations(store, stream)
    await store.set_retention(stream, 10_000)
    await store.migrate(stream, retention_days=10_000)
    assert await mutations(store, stream) == before
    await store.set_retention(stream, 12)
    assert await store.retention(stream) == 12


async def test_shorter_retention_removes_what_is_older(store: Store, stream: Stream) -> None:
    now = time.time_ns()
    for age, token in ((0, "a"), (40, "b"), (400, "c")):
        received = now - age * DAY_NS
        await store.insert(stream, sealed([record(age, timestamp=received)], received_at=received), rows=1, token=token)
    assert await count(store, stream) == 3
    await store.set_retention(stream, 100)
    assert await settled(store, stream, 2) == 2
    await store.set_retention(stream, 30)
    assert await settled(store, stream, 1) == 1


@pytest.mark.parametrize("days", [1, schema.MAX_RETENTION_DAYS])
async def test_old_and_far_future_rows_received_today_stay(store: Store, stream: Stream, days: int) -> None:
    now = time.time_ns()
    await store.set_retention(stream, days)
    for i, timestamp in enumerate((-2_208_988_800 * 10**9, -1, now - 9_000 * DAY_NS, now, 7 * 10**18, (1 << 63) - 1)):
        await store.insert(
            stream, sealed([record(i, timestamp=timestamp)], offset=i, received_at=now), rows=1, token=str(i)
        )
    await store.command(f"OPTIMIZE TABLE {stream.database}.logs FINAL")
    assert await count(store, stream) == 6


@pytest.mark.parametrize("days", [0, -1, 10_951])
async def test_retention_has_bounds(store: Store, stream: Stream, days: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        await store.set_retention(stream, days)
    assert caught.value.field == "retention_days"
