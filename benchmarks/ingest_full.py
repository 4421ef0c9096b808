"""`make bench-ingest-full`: the whole path over Kafka, default settings, contents verified.

A real broker, Postgres, ClickHouse's engine, and collector, processor and API, each a process. CPU (user + system) of
LogStream's processes and ClickHouse from before the first request until everything is stored and background merges are
idle, as `make bench-ingest` counts; the broker's, Postgres's and the generator's own beside it.

    --rows N        rows in batches of 1,000 (5,000,000)
    --singles N     single-record requests (60,000)
    --each N        collectors, processors and APIs (1)
    --beside CMD    run it in a shell while the batches go through, with PIDS="role=pid …" (a profiler)
"""

import argparse
import os
import subprocess
import time
from typing import Any

from benchmarks import full_harness, harness, ingest, workload
from benchmarks.full_harness import Full, is_ours

_SEED = 20_261_124


def _job(rows: int, rows_per_body: int, connections: int) -> dict[str, Any]:
    return {
        "rows": rows, "rows_per_body": rows_per_body, "connections": connections,
        "seed": _SEED, "start_ns": time.time_ns() // 1000 * 1000 - rows * workload.STEP_NS,
    }  # fmt: skip


def _inserts(full: Full) -> int:
    return int(full.sql("SELECT value FROM system.events WHERE event = 'InsertQuery'")[0][0])


def _beside(full: Full, command: str) -> subprocess.Popen[bytes]:
    pids = " ".join(f"{role}={server.pid}" for role, server in full.servers.items())
    return subprocess.Popen(command, shell=True, env={**os.environ, "PIDS": pids})


def _ours(seconds: dict[str, float]) -> float:
    return sum(used for role, used in seconds.items() if is_ours(role))


def _batches(full: Full, rows: int, beside: str) -> dict[str, Any]:
    database = full.database()
    profilers: list[subprocess.Popen[bytes]] = []

    def begun() -> None:
        if beside:
            profilers.append(_beside(full, beside))

    sent, before = full_harness.send(full, _job(rows, 1000, 100), begun=begun)
    parts = ingest.merges_idle(full, database, rows)
    seconds = full_harness.spent_since(full, before)
    for profiler in profilers:
        profiler.wait()
    peaks = full.peak_rss_mb()
    inserts = _inserts(full)
    ingest.verify(full, database, sent.sums)
    for role, used in seconds.items():
        print(f"  {role:<12} {used:7.2f} s   {used / rows * 1e6:5.2f} µs/row   peak RSS {peaks[role]:6.0f} MB")
    print(f"  generator    {sent.cpu_seconds:7.2f} s   {sent.cpu_seconds / rows * 1e6:5.2f} µs/row")
    print(
        f"  {sent.seconds:.1f} s wall, POST p50 {sent.p50_ms:.0f} ms, p99 {sent.p99_ms:.0f} ms; {inserts} INSERTs; "
        f"{len(parts)} parts left: {sorted(parts, reverse=True)[:8]}"
    )
    return {
        "rows_per_cpu_second": round(rows / _ours(seconds)),
        "rows": rows,
        "cpu_us_per_row": {role: round(used / rows * 1e6, 3) for role, used in seconds.items()},
        "broker_cpu_s": seconds["kafka"],
        "postgres_cpu_s": seconds["postgres"],
        "generator_cpu_s": round(sent.cpu_seconds, 2),
        "log_bytes_per_row": round(full.log_bytes() / rows, 1),
        "bytes_per_row": round(ingest.bytes_per_row(full, database, rows), 1),
        "rows_per_second_wall": round(rows / sent.seconds),
        "inserts": inserts,
        "parts": len(parts),
        "peak_rss_mb": {role: round(value) for role, value in peaks.items()},
        "post_p50_ms": round(sent.p50_ms, 1),
        "post_p99_ms": round(sent.p99_ms, 1),
    }


def _singles(full: Full, requests: int) -> dict[str, Any]:
    database = full.database()
    sent, before = full_harness.send(full, _job(requests, 1, 256))
    ingest.merges_idle(full, database, requests)
    seconds = full_harness.spent_since(full, before)
    ingest.verify(full, database, sent.sums)
    for role, used in seconds.items():
        print(f"  {role:<12} {used:7.2f} s   {used / requests * 1e6:5.1f} µs/request")
    print(f"  generator    {sent.cpu_seconds:7.2f} s   {sent.cpu_seconds / requests * 1e6:5.1f} µs/request")
    return {
        "single_requests_per_cpu_second": round(requests / _ours(seconds)),
        "single_cpu_us_per_request": {role: round(used / requests * 1e6, 1) for role, used in seconds.items()},
        "single_requests_per_second_wall": round(requests / sent.seconds),
        "single_p50_ms": round(sent.p50_ms, 1),
        "single_p99_ms": round(sent.p99_ms, 1),
    }


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--singles", type=int, default=60_000)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--beside", default="")
    options = parser.parse_args()
    figures: dict[str, Any] = {"each": options.each}
    if options.rows:
        print(f"{options.rows:,} rows in batches of 1,000, 100 requests in flight")
        with full_harness.full_up(options.each) as full:
            figures["idle_cpu_percent"] = full_harness.idle_cpu(full)
            print(f"  idle, % of a core: {figures['idle_cpu_percent']}")
            figures |= _batches(full, options.rows, options.beside)
    if options.singles:
        print(f"{options.singles:,} single-record requests, 256 connections")
        with full_harness.full_up(options.each) as full:
            figures |= _singles(full, options.singles)
    harness.report({**figures, "machine": full_harness.machine()})


if __name__ == "__main__":
    main()
