"""`make bench-ingest`: the whole path over HTTP, default settings, contents verified.

CPU (user + system) of all LogStream processes from before the first request until background merges are idle,
the load generator apart.

    --rows N                         rows in batches of 1,000 (5,000,000)
    --singles N                      single-record requests (60,000)
    --compare victorialogs=URL       the same batches to a server that is already running
"""

import argparse
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks import harness, workload

_SEED = 20_261_124


def merges_idle(running: harness.Engine, database: str, rows: int) -> list[int]:
    """Wait until every row is stored and merges have been idle for two seconds; the rows of the parts left."""
    deadline = time.monotonic() + 600
    quiet_since = None
    while time.monotonic() < deadline:
        stored = int(running.sql(f"SELECT count() FROM {database}.logs")[0][0])
        merging = int(running.sql("SELECT count() FROM system.merges")[0][0])
        if stored >= rows and merging == 0:
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since > 2:
                break
        else:
            quiet_since = None
        time.sleep(0.25)
    else:
        raise TimeoutError("rows are missing or merges never became idle")
    parts = running.sql(f"SELECT rows FROM system.parts WHERE active AND database = '{database}' AND table = 'logs'")
    return [int(row[0]) for row in parts]


def bytes_per_row(running: harness.Engine, database: str, rows: int) -> float:
    size = running.sql(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{database}'")
    return int(size[0][0]) / rows


def verify(running: harness.Engine, database: str, sums: dict[str, int]) -> None:
    """Count, sums of CRC-32 over messages and unique ids, and sums of times against the generator's own; and that
    every record of the log has its rows 0 … n-1, each once."""
    answer = running.sql(
        "SELECT count(), sum(toUInt64(CRC32(message))), sum(toUInt64(CRC32(metadata['request']))), "
        f"sum(toInt128(toUnixTimestamp64Nano(timestamp))) FROM {database}.logs"
    )[0]
    got = dict(zip(("rows", "message_crc", "id_crc", "time_sum"), map(int, answer), strict=True))
    if got != sums:
        raise SystemExit(f"contents differ: stored {got}, sent {sums}")
    uneven = running.sql(
        "SELECT count() FROM (SELECT partition, offset, count() AS n, max(row) AS last, sum(row) AS total "
        f"FROM {database}.logs GROUP BY partition, offset HAVING n != last + 1 OR total != n * (n - 1) / 2)"
    )[0][0]
    if int(uneven):
        raise SystemExit(f"{uneven} records of the log have rows missing or doubled")


def _job(running: harness.Platform, rows: int, rows_per_body: int, connections: int) -> dict[str, Any]:
    """Rows up to now, to the collector of `running`."""
    return harness.collector_job(running) | {
        "rows": rows, "rows_per_body": rows_per_body, "connections": connections,
        "seed": _SEED, "start_ns": time.time_ns() // 1000 * 1000 - rows * workload.STEP_NS,
    }  # fmt: skip


def _batches(rows: int) -> dict[str, Any]:
    with harness.platform_up() as running:
        database = running.database()
        load = harness.prepare_load(_job(running, rows, 1000, 100))
        before = running.cpu()
        harness.begin_load(load)
        sent = harness.finish_load(load)
        if sent["accepted"] != rows:
            raise SystemExit(f"accepted {sent['accepted']} of {rows}: {sent['statuses']}")
        parts = merges_idle(running, database, rows)
        after = running.cpu()
        peaks = running.peak_rss_mb()
        inserts = int(running.sql("SELECT value FROM system.events WHERE event = 'InsertQuery'")[0][0])
        verify(running, database, sent["sums"])
        per_row = bytes_per_row(running, database, rows)
    seconds = {role: after[role] - before.get(role, 0.0) for role in after}
    total = sum(seconds.values())
    for role, used in seconds.items():
        print(f"  {role:<12} {used:7.2f} s   {used / rows * 1e6:5.2f} µs/row   peak RSS {peaks[role]:6.0f} MB")
    print(
        f"  {sent['seconds']:.1f} s wall, POST p50 {sent['p50_ms']:.0f} ms, p99 {sent['p99_ms']:.0f} ms; "
        f"{rows / max(inserts, 1):,.0f} rows an INSERT; {len(parts)} parts left: {sorted(parts, reverse=True)[:8]}"
    )
    return {
        "rows_per_cpu_second": round(rows / total),
        "rows": rows,
        "cpu_us_per_row": {role: round(used / rows * 1e6, 3) for role, used in seconds.items()},
        "bytes_per_row": round(per_row, 1),
        "rows_per_second_wall": round(rows / sent["seconds"]),
        "rows_per_insert": round(rows / max(inserts, 1)),
        "parts": len(parts),
        "peak_rss_mb": {role: round(value) for role, value in peaks.items()},
        "post_p50_ms": round(sent["p50_ms"], 1),
        "post_p99_ms": round(sent["p99_ms"], 1),
    }  # fmt: skip


def _singles(requests: int) -> dict[str, Any]:
    with harness.platform_up() as running:
        database = running.database()
        load = harness.prepare_load(_job(running, requests, 1, 256))
        before = running.cpu()
        harness.begin_load(load)
        sent = harness.finish_load(load)
        if sent["accepted"] != requests:
            raise SystemExit(f"accepted {sent['accepted']} of {requests}: {sent['statuses']}")
        merges_idle(running, database, requests)
        after = running.cpu()
        verify(running, database, sent["sums"])
    seconds = {role: after[role] - before.get(role, 0.0) for role in after}
    for role, used in seconds.items():
        print(f"  {role:<12} {used:7.2f} s   {used / requests * 1e6:5.1f} µs/request")
    return {
        "single_requests_per_cpu_second": round(requests / sum(seconds.values())),
        "single_requests_per_second_wall": round(requests / sent["seconds"]),
        "single_p50_ms": round(sent["p50_ms"], 1),
        "single_p99_ms": round(sent["p99_ms"], 1),
    }


def _compare(name: str, url: str, rows: int) -> dict[str, Any]:
    """The same batches to a server on this machine; its CPU is that of the process listening on the port."""
    if name != "victorialogs":
        raise SystemExit(f"--compare knows victorialogs=URL, not {name}")
    target = urlsplit(url)
    port = target.port or 9428
    if target.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise SystemExit("--compare sends load to loopback only")
    owners = {c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid}
    if not owners:
        raise SystemExit(f"no process listens on port {port}")
    process = psutil.Process(owners.pop())
    job = {
        "host": target.hostname,
        "port": port,
        "path": "/insert/jsonline?_stream_fields=service&_msg_field=message&_time_field=timestamp",
        "headers": {"Content-Type": "application/stream+json"},
        "rows": rows,
        "rows_per_body": 1000,
        "connections": 100,
        "seed": _SEED,
        "start_ns": time.time_ns() // 1000 * 1000 - rows * workload.STEP_NS,
    }
    load = harness.prepare_load(job)
    before = process.cpu_times()
    harness.begin_load(load)
    sent = harness.finish_load(load)
    time.sleep(15)  # its merges, as ours
    after = process.cpu_times()
    with urllib.request.urlopen(f"{url.rstrip('/')}/select/logsql/query?query=*%20%7C%20count()", timeout=60) as answer:
        print(f"  {name} answers: {answer.read(200).decode().strip()}")
    used = after.user + after.system - before.user - before.system
    return {f"{name}_rows_per_cpu_second": round(rows / used), f"{name}_statuses": sent["statuses"]}


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--singles", type=int, default=60_000)
    parser.add_argument("--compare", metavar="victorialogs=URL")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.rows:
        print(f"{options.rows:,} rows in batches of 1,000, 100 requests in flight")
        figures |= _batches(options.rows)
    if options.singles:
        print(f"{options.singles:,} single-record requests, 256 connections")
        figures |= _singles(options.singles)
    if options.compare:
        name, _, url = options.compare.partition("=")
        figures |= _compare(name, url, options.rows)
    harness.report({**figures, "machine": harness.machine()})


if __name__ == "__main__":
    main()
