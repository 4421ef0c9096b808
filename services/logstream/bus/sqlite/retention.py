"""What the log forgets: consumed records, old dead letters, old claims, old minutes, what deleted topics had; a
little at a time.

Deletes are small so that no append waits long behind one. The last record of a lane stays, because the
next offset is known by it.
"""

from logstream.bus.protocol import minute_of
from logstream.bus.sqlite.log import Lane, Log
from logstream.bus.sqlite.schema import OFFSET_BITS
from logstream.clock import NS_PER_SECOND, Clock
from logstream.settings import MIB, BusSettings

_STEP_BYTES = 8 * MIB
_STEP_RECORDS = 1_000
_LETTERS_SHARE = 4
_DAY_NS = 86_400 * NS_PER_SECOND
_MINUTES_KEPT = 400 * 1440
"""Time after which the ledger knows counts in total only: a row a minute and key is 20 MB a year."""


def letters_limit(settings: BusSettings) -> int:
    """Bytes of dead letters a topic keeps: a quarter of what the log may hold besides."""
    return settings.max_bytes // _LETTERS_SHARE


def step(log: Log, settings: BusSettings, clock: Clock) -> tuple[bool, int]:
    """Delete one step's worth, in the caller's transaction.

    Returns whether more is due, and how many dead letters were discarded.
    """
    now = clock.now_ns()
    more = False
    discarded = 0
    for lanes in log.lanes.values():
        for lane in lanes:
            count, full = _trim(log, lane, settings, now)
            more |= full
            discarded += count if lane.letters else 0
    claims = log.sql.execute(
        "DELETE FROM claims WHERE (topic, key) IN"
        " (SELECT topic, key FROM claims INDEXED BY claims_by_time WHERE claimed_at <= ? LIMIT ?)",
        (now - int(settings.idempotency_window_seconds * NS_PER_SECOND), _STEP_RECORDS),
    ).rowcount
    for lanes in log.lanes.values():
        log.sql.execute(
            "DELETE FROM ledger_minutes WHERE topic = ? AND minute < ?",
            (lanes[0].topic_id, minute_of(now) - _MINUTES_KEPT),
        )
    more |= _sweep(log)
    return more or claims == _STEP_RECORDS, discarded


def _sweep(log: Log) -> bool:
    """One step's worth of what deleted topics had; whether there may be more."""
    if not log.deleted:
        return False
    topic, lane = log.deleted[0]
    first, end = lane << OFFSET_BITS, (lane + 1) << OFFSET_BITS
    rows = log.sql.execute(
        "SELECT id, bytes FROM entries WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (first, end, _STEP_RECORDS)
    ).fetchall()
    size = 0
    for row, record_bytes in rows:
        size += record_bytes
        if size >= _STEP_BYTES or row == rows[-1][0]:
            log.sql.execute("DELETE FROM records WHERE id >= ? AND id <= ?", (first, row))
            log.sql.execute("DELETE FROM entries WHERE id >= ? AND id <= ?", (first, row))
            return True
    for table, key in (("claims", "key"), ("ledger_minutes", "minute, key_id")):
        deleted = log.sql.execute(
            f"DELETE FROM {table} WHERE topic = ? AND ({key}) IN (SELECT {key} FROM {table} WHERE topic = ? LIMIT ?)",  # noqa: S608
            (topic, topic, _STEP_RECORDS),
        ).rowcount
        if deleted:
            return True
    log.deleted.pop(0)
    return bool(log.deleted)


def _trim(log: Log, lane: Lane, settings: BusSettings, now: int) -> tuple[int, bool]:
    """Records deleted from the lane's beginning, and whether the step ended for its size."""
    if lane.letters:
        end, excess = lane.end, lane.bytes - letters_limit(settings)
        days = log.letters_days.get(lane.topic)
        too_old = 0 if days is None else now - days * _DAY_NS
    else:
        end = lane.consumed
        excess = lane.bytes - lane.waiting_bytes - settings.retain_bytes
        too_old = now - int(settings.retain_seconds * NS_PER_SECOND)
    end = min(end, lane.end - 1)
    if end <= lane.beginning:
        return 0, False
    rows = log.sql.execute(
        "SELECT bytes, appended_at FROM entries WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (lane.row(lane.beginning), lane.row(end), _STEP_RECORDS),
    )
    count = size = 0
    for record_bytes, appended_at in rows:
        if (size >= excess and appended_at >= too_old) or size >= _STEP_BYTES:
            break
        count += 1
        size += record_bytes
    rows.close()
    if not count:
        return 0, False
    bounds = (lane.row(lane.beginning), lane.row(lane.beginning + count))
    log.sql.execute("DELETE FROM records WHERE id >= ? AND id < ?", bounds)
    log.sql.execute("DELETE FROM entries WHERE id >= ? AND id < ?", bounds)
    log.changed[lane.lane_id] = lane
    lane.beginning += count
    lane.bytes -= size
    if lane.letters:
        lane.waiting_bytes -= size
    return count, count == _STEP_RECORDS or size >= _STEP_BYTES
