"""The embedded log at its limits: size, disk, memory, a second process, a damaged file."""

import asyncio
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from logstream.bus.header import Header, Kind, Segment
from logstream.bus.protocol import Claim, Committed, Outcome, Settled
from logstream.bus.sqlite import SqliteBus, retention
from logstream.bus.sqlite.schema import FILE
from logstream.clock import Clock, ManualClock
from logstream.errors import BusFull, BusUnavailable, OffsetOutOfRange, StartupError
from logstream.settings import BusSettings

TOPIC = "logstream.test"
LETTERS = "logstream.test.deadletters"
KIB, MIB = 1 << 10, 1 << 20


@asynccontextmanager
async def opened(
    path: Path, clock: Clock | None = None, *, free: Callable[[Path], int] = lambda _: 1 << 40, **changes: object
) -> AsyncIterator[SqliteBus]:
    options = {k: changes.pop(k) for k in ("max_queued_bytes", "recent_bytes") if k in changes}
    settings = BusSettings(path=path, **changes)  # type: ignore[arg-type]
    bus = await SqliteBus.open(settings, clock or ManualClock(), free_disk_bytes=free, **options)  # type: ignore[arg-type]
    await bus.create_topic(TOPIC)
    await bus.create_topic(LETTERS)
    try:
        yield bus
    finally:
        await bus.close()


def header(rows: int = 1, kind: Kind = Kind.BLOCK) -> Header:
    return Header(rows, 1, 1, 1, (Segment("key1", rows),), kind=kind)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def beginning(bus: SqliteBus, topic: str = TOPIC) -> int:
    return (await bus.offsets(topic, 0)).beginning


# Size


@pytest.mark.parametrize("restart", [False, True])
async def test_a_deleted_topic_makes_room_at_once_and_its_records_go_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    monkeypatch.setattr(retention, "_STEP_RECORDS", 10)
    doomed = "logstream.doomed"
    now = Header(1, ManualClock().now_ns(), 1, 1, (Segment("key1", 1),))

    def left() -> list[int]:
        with closing(sqlite3.connect(f"file:{tmp_path / FILE}?mode=ro", uri=True)) as log:
            return [
                log.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("records", "entries", "claims", "ledger", "ledger_minutes", "positions")
            ]

    async with opened(tmp_path, max_bytes=MIB) as bus:
        await bus.create_topic(doomed)
        await bus.consumer(doomed, "g")
        for number in range(64):
            claim = Claim(number.to_bytes(16, "big"), bytes(16))
            await bus.publish(doomed, now, bytes(16 * KIB - 200), claim=claim)
        with pytest.raises(BusFull):
            await bus.publish(TOPIC, now, bytes(32 * KIB))
        await bus.delete_topic(doomed)
        await bus.publish(TOPIC, now, bytes(32 * KIB))
        if not restart:
            await eventually(lambda: left() == [1, 1, 0, 1, 1, 0])
    async with opened(tmp_path, max_bytes=MIB) as bus:
        await eventually(lambda: left() == [1, 1, 0, 1, 1, 0])
        assert (await bus.create_topic(doomed)).incarnation
        assert await bus.ledger(doomed) == []
        assert [entry.accepted for entry in await bus.ledger(TOPIC)] == [1]


async def test_a_full_log_refuses_until_something_is_consumed(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=MIB) as bus:
        consumer = await bus.consumer(TOPIC, "g")
        for _ in range(9):
            await bus.publish(TOPIC, header(), bytes(100 * KIB))
        with pytest.raises(BusFull) as caught:
            await fill(bus)
        assert caught.value.limit == MIB
        assert caught.value.retry_after >= 1
        end = (await bus.offsets(TOPIC, 0)).end
        assert (await bus.ledger(TOPIC))[0].accepted == end
        await consumer.commit(0, Committed(5), Settled(0, 4, {("key1", 0): Outcome(stored=5)}))
        assert (await bus.publish(TOPIC, header(), bytes(100 * KIB))).offset == end
    async with opened(tmp_path, max_bytes=MIB) as bus:
        # What waits is known again after a restart.
        with pytest.raises(BusFull):
            await fill(bus)


async def fill(bus: SqliteBus) -> None:
    """Publish without end."""
    while True:
        await bus.publish(TOPIC, header(), bytes(100 * KIB))


async def test_a_repeat_of_an_accepted_request_is_answered_though_the_log_is_full(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=MIB) as bus:
        claim = Claim(b"k" * 16, b"f" * 16)
        await bus.publish(TOPIC, header(), bytes(1000 * KIB), claim=claim)
        with pytest.raises(BusFull):
            await bus.publish(TOPIC, header(), bytes(100 * KIB))
        assert (await bus.publish(TOPIC, header(), bytes(1000 * KIB), claim=claim)).duplicate


async def test_records_wait_for_a_consumer_that_has_not_come_yet(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock, retain_bytes=0, retain_seconds=0) as bus:
        for _ in range(5):
            await bus.publish(TOPIC, header(), bytes(KIB))
        clock.advance(100_000)
        await bus._call(lambda log: retention.step(log, log.settings, clock))
        assert await beginning(bus) == 0


async def test_consumed_records_go_by_bytes_and_the_others_stay(tmp_path: Path) -> None:
    async with opened(tmp_path, retain_bytes=200 * KIB, retain_seconds=3600) as bus:
        first, second = await bus.consumer(TOPIC, "first"), await bus.consumer(TOPIC, "second")
        for _ in range(10):
            await bus.publish(TOPIC, header(), bytes(100 * KIB))
        await first.commit(0, Committed(10))
        await second.commit(0, Committed(6))
        # Six are consumed by all; about two of those may stay.
        await eventually(lambda: bus._views[TOPIC][0].beginning > 0)
        assert await beginning(bus) in (4, 5)
        with pytest.raises(OffsetOutOfRange) as caught:
            await bus.read(TOPIC, 0, 0, max_bytes=1)
        assert caught.value.beginning == await beginning(bus)
        assert (await bus.read(TOPIC, 0, await beginning(bus), max_bytes=1))[0].offset == await beginning(bus)


async def test_consumed_records_go_by_age_but_the_last_stays(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock, retain_bytes=100 * MIB, retain_seconds=60) as bus:
        consumer = await bus.consumer(TOPIC, "g")
        for _ in range(4):
            await bus.publish(TOPIC, header(), b"x")
        await consumer.commit(0, Committed(4))
        clock.advance(61)
        await eventually(lambda: bus._views[TOPIC][0].beginning == 3)
    async with opened(tmp_path, clock) as bus:
        # The next offset is known by the record that stayed.
        assert (await bus.publish(TOPIC, header(), b"x")).offset == 4


async def test_much_is_deleted_in_several_steps(tmp_path: Path) -> None:
    async with opened(tmp_path, retain_bytes=0, retain_seconds=0) as bus:
        consumer = await bus.consumer(TOPIC, "g")
        await asyncio.gather(*(bus.publish(TOPIC, header(), bytes(10)) for _ in range(3500)))
        await consumer.commit(0, Committed(3500))
        await eventually(lambda: bus._views[TOPIC][0].beginning == 3499)


async def test_dead_letters_keep_the_newest_and_never_fill_the_log(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=MIB) as bus:
        for _ in range(20):
            await bus.publish(LETTERS, header(kind=Kind.DEAD_LETTER), bytes(100 * KIB))
        await bus.publish(TOPIC, header(), bytes(900 * KIB))
        # They keep a quarter of max_bytes.
        await eventually(lambda: bus._views[LETTERS][0].beginning >= 17)
        assert await beginning(bus, LETTERS) in (17, 18)
        with pytest.raises(BusFull):
            await bus.publish(TOPIC, header(), bytes(900 * KIB))
        await bus.publish(LETTERS, header(kind=Kind.DEAD_LETTER), bytes(100 * KIB))


async def test_old_claims_are_forgotten(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock, idempotency_window_seconds=600) as bus:
        for i in range(5):
            await bus.publish(TOPIC, header(), b"", claim=Claim(bytes([i]) * 16, b"f" * 16))
        clock.advance(601)

        def left(sql) -> int:  # type: ignore[no-untyped-def]
            return int(sql.execute("SELECT count(*) FROM claims").fetchone()[0])

        async with asyncio.timeout(30):
            while await bus._reader.run(left):
                await asyncio.sleep(0.05)


# Disk


async def test_below_the_disk_floor_ingestion_stops_and_the_rest_goes_on(tmp_path: Path) -> None:
    free = 1 << 40
    clock = ManualClock()
    async with opened(tmp_path, clock, free=lambda _: free, min_free_disk_bytes=1 << 30) as bus:
        consumer = await bus.consumer(TOPIC, "g")
        await bus.publish(TOPIC, header(), b"x")
        await bus.check()
        free = (1 << 30) - 1
        clock.advance(1)
        with pytest.raises(BusFull, match="1073741824 bytes of disk space"):
            await bus.publish(TOPIC, header(), b"x")
        with pytest.raises(BusFull):
            await bus.check()
        await consumer.commit(0, Committed(1), Settled(0, 0, {("key1", 0): Outcome(stored=1)}))
        await bus.publish(LETTERS, header(kind=Kind.DEAD_LETTER), b"x")
        assert len(await bus.read(TOPIC, 0, 0, max_bytes=1)) == 1
        free = 1 << 30
        clock.advance(1)
        await bus.check()
        assert (await bus.publish(TOPIC, header(), b"x")).offset == 1


@contextmanager
def file_size_limit(size: int):  # type: ignore[no-untyped-def]
    """Writes beyond `size` fail with EFBIG, as on a full disk (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["file size", "page count"])
async def test_a_full_disk_is_an_answer_and_passes(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path, recent_bytes=0) as bus:
        await bus.publish(TOPIC, header(), bytes(MIB))
        if how == "page count":
            bus._writer._log.sql.execute("PRAGMA max_page_count = 200")
        with file_size_limit(3 * MIB if how == "file size" else resource.RLIM_INFINITY):
            with pytest.raises(BusUnavailable) as caught:
                await fill(bus)
            accepted = (await bus.offsets(TOPIC, 0)).end
            assert not isinstance(caught.value, BusFull)
            assert caught.value.retry_after >= 1
            assert len(await bus.read(TOPIC, 0, 0, max_bytes=1)) == 1
        if how == "page count":
            bus._writer._log.sql.execute("PRAGMA max_page_count = 1000000")
        # It goes on where it was, without a gap.
        assert (await bus.publish(TOPIC, header(), b"after")).offset == accepted
        [entry] = await bus.ledger(TOPIC)
        assert entry.accepted == entry.in_flight == accepted + 1
    async with opened(tmp_path) as bus:
        offsets: list[int] = []
        while len(offsets) <= accepted:
            offsets += [m.offset for m in await bus.read(TOPIC, 0, len(offsets), max_bytes=1)]
        assert offsets == list(range(accepted + 1))


# Memory


async def test_the_queue_of_writes_is_bounded(tmp_path: Path) -> None:
    async with opened(tmp_path, max_queued_bytes=300 * KIB) as bus:
        results = await asyncio.gather(
            *(bus.publish(TOPIC, header(), bytes(100 * KIB)) for _ in range(50)), return_exceptions=True
        )
        refused = [r for r in results if isinstance(r, BusUnavailable)]
        assert len(refused) >= 40
        assert len(refused) + (await bus.offsets(TOPIC, 0)).end == 50
        assert refused[0].limit == 300 * KIB
        # One that is larger than the limit goes through when nothing else waits.
        await bus.publish(TOPIC, header(), bytes(400 * KIB))


@pytest.mark.parametrize("recent_bytes", [0, 150 * KIB, 100 * MIB])
async def test_reads_are_the_same_from_memory_and_from_the_file(tmp_path: Path, recent_bytes: int) -> None:
    async with opened(tmp_path, recent_bytes=recent_bytes) as bus:
        for i in range(100):
            await bus.publish(TOPIC, header(), bytes([i]) * (KIB + i))
        for offset in (0, 1, 37, 98, 99):
            for max_bytes in (1, 10 * KIB, 10 * MIB):
                found = await bus.read(TOPIC, 0, offset, max_bytes=max_bytes)
                assert [m.offset for m in found] == list(range(offset, offset + len(found)))
                assert all(m.value[-1] == m.offset for m in found)
                assert len(found) == 1 or sum(len(m.value) for m in found) <= max_bytes
                if max_bytes == 10 * MIB and recent_bytes != 150 * KIB:
                    assert len(found) == 100 - offset


# Files


async def test_one_process_a_folder(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StartupError, match=r"in use by another LogStream process \(process id \d+\)"):
            await SqliteBus.open(BusSettings(path=tmp_path), ManualClock())
    async with opened(tmp_path):
        pass


async def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys, pathlib\n"
        "from logstream.bus.sqlite import SqliteBus\n"
        "from logstream.settings import BusSettings\n"
        "from logstream.clock import SystemClock\n"
        "async def main():\n"
        "    await SqliteBus.open(BusSettings(path=pathlib.Path(sys.argv[1])), SystemClock())\n"
        "    print('open', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child, child.stdout:
        assert await asyncio.to_thread(child.stdout.readline) == b"open\n"
        with pytest.raises(StartupError, match=f"process id {child.pid}"):
            await SqliteBus.open(BusSettings(path=tmp_path), ManualClock())
        child.kill()
    async with opened(tmp_path):
        pass


async def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="file"):
        await SqliteBus.open(BusSettings(path=tmp_path / "file"), ManualClock())


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + bytes(20000)])
async def test_a_file_that_is_no_log_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StartupError, match="cannot open the log"):
        await SqliteBus.open(BusSettings(path=tmp_path), ManualClock())
    assert (tmp_path / FILE).read_bytes() == content


async def test_a_later_format_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as bus:
        await bus._call(lambda log: log.sql.execute("PRAGMA user_version=7").fetchall())
    with pytest.raises(StartupError, match="has format 7"):
        await SqliteBus.open(BusSettings(path=tmp_path), ManualClock())
