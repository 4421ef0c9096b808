"""`make bench-drain`: ClickHouse away for ten minutes at 5,000 logs a second, and how fast the rest is stored then.

    --seconds N     how long ClickHouse is away (600)
    --rate N        logs a second, before, meanwhile and until all is stored (5,000)
    --each N        collectors, processors and APIs (1)

The engine is killed with SIGKILL and started again; the load goes on throughout, in requests of 100 logs.
`drain_ratio`: rows stored a second from the first one stored after the return until the backlog is gone, against those
that came in. Peak RSS (VmHWM) of every process, of ClickHouse since its return; and how RSS grew while ClickHouse was
away, from the second quarter of that time to the last. At the end every accepted row is looked up: none missing, none
twice.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks import full_harness, harness, ingest, workload
from benchmarks.full_harness import Full

_SEED = 20_261_124
_BATCH = 100
_STEADY_SECONDS = 10
_CAUGHT_UP_ROWS_SECONDS = 2.0
"""The backlog is gone when no more rows wait than come in so many seconds."""
_LIMIT_SECONDS = 900.0


class _Load(threading.Thread):
    """Posts at a rate until told to stop, by one process after another, each with a piece of one workload."""

    PIECE_SECONDS = 20

    def __init__(self, full: Full, rate: int) -> None:
        super().__init__(name="load")
        self._full = full
        self._rate = rate
        self._over = threading.Event()
        self.began = 0.0
        self.sums: dict[str, int] = dict.fromkeys(("rows", "message_crc", "id_crc", "time_sum"), 0)
        self.statuses: dict[str, int] = {}
        self.failure: Exception | None = None

    def _pieces(self) -> Iterator[dict[str, Any]]:
        rows = self._rate * self.PIECE_SECONDS
        start = time.time_ns() // 1000 * 1000
        number = 0
        while True:
            yield harness.collector_job(self._full) | {
                "rows": rows, "rows_per_body": _BATCH, "connections": 10, "seed": _SEED + number,
                "rate": self._rate / _BATCH, "start_ns": start + number * rows * workload.STEP_NS,
            }  # fmt: skip
            number += 1

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.failure = error

    def _run(self) -> None:
        pieces = self._pieces()
        load = harness.prepare_load(next(pieces))
        self.began = time.monotonic()
        while not self._over.is_set():
            harness.begin_load(load)
            # Its bodies are made while this one's are sent, so that the load has no pause.
            following = harness.prepare_load(next(pieces))
            result = harness.finish_load(load)
            load = following
            self._count(result)
        load.kill()
        load.wait()

    def _count(self, result: dict[str, Any]) -> None:
        if result["accepted"] != result["sums"]["rows"]:
            raise RuntimeError(f"accepted {result['accepted']} of {result['sums']['rows']}: {result['statuses']}")
        for name in self.sums:
            self.sums[name] += result["sums"][name]
        for status, count in result["statuses"].items():
            self.statuses[status] = self.statuses.get(status, 0) + count

    def end(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def _stored(full: Full, database: str) -> int:
    return int(full.sql(f"SELECT count() FROM {database}.logs")[0][0])


def _away(full: Full, seconds: float) -> dict[str, float]:
    """Kill ClickHouse, start it after `seconds`; growth of RSS meanwhile, MB by role, when what may fill is full: the
    median of the last quarter against that of the second."""
    full.servers["clickhouse"].kill()
    began = time.monotonic()
    samples: list[dict[str, float]] = []
    while time.monotonic() - began < seconds:
        samples.append(full.rss_mb())
        time.sleep(1)
    full.servers["clickhouse"].start(120)
    quarter = max(1, len(samples) // 4)

    def median(part: list[dict[str, float]], role: str) -> float:
        return statistics.median(sample[role] for sample in part)

    return {
        role: round(median(samples[-quarter:], role) - median(samples[quarter : 2 * quarter], role), 1)
        for role in samples[0]
    }


def _catch_up(full: Full, database: str, load: _Load, rate: int) -> dict[str, float]:
    """Wait until the backlog is gone; how fast it went."""
    returned = time.monotonic()
    before = _stored(full, database)
    first = None
    while True:
        now = time.monotonic()
        stored = _stored(full, database)
        if first is None and stored > before:
            first = now
        waiting = rate * (now - load.began) - stored
        if first is not None and waiting < rate * _CAUGHT_UP_ROWS_SECONDS:
            break
        if now - returned > _LIMIT_SECONDS or load.failure is not None:
            raise TimeoutError(f"{waiting:,.0f} rows wait still, {stored:,} are stored") from load.failure
        time.sleep(0.1)
    seconds = now - first
    return {
        "backlog_rows": round(rate * (first - load.began) - before),
        "catch_up_seconds": round(seconds, 1),
        "first_row_after_seconds": round(first - returned, 1),
        "stored_rows_per_second": round((stored - before) / seconds),
        "drain_ratio": round((stored - before) / seconds / rate, 1),
    }


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--each", type=int, default=1)
    options = parser.parse_args()
    with full_harness.full_up(options.each) as full:
        database = full.database()
        load = _Load(full, options.rate)
        cpu = full.cpu()
        load.start()
        try:
            time.sleep(_STEADY_SECONDS)
            print(f"ClickHouse is away for {options.seconds:g} s", flush=True)
            growth = _away(full, options.seconds)
            print("ClickHouse is back", flush=True)
            figures = _catch_up(full, database, load, options.rate)
        finally:
            load.end()
        ingest.merges_idle(full, database, load.sums["rows"])
        ingest.verify(full, database, load.sums)
        spent = full_harness.spent_since(full, cpu)
        peaks = {role: round(peak) for role, peak in full.peak_rss_mb().items()}
    for role, peak in peaks.items():
        print(f"  {role:<12} {spent[role]:7.2f} s   peak RSS {peak:6} MB   while away {growth.get(role, 0.0):+6.1f} MB")
    harness.report(
        {
            **figures,
            "rate": options.rate,
            "away_seconds": options.seconds,
            "rows": load.sums["rows"],
            "lost": 0,
            "doubled": 0,
            "statuses": load.statuses,
            "peak_rss_mb": peaks,
            "growth_mb": growth,
            "each": options.each,
            "machine": full_harness.machine(),
        }
    )


if __name__ == "__main__":
    main()
