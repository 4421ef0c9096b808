"""`make bench-memory`: peak memory of every process under ingest, and whether it stays flat.

First the load of bench-ingest as fast as it goes, then ten minutes at a steady rate with searches in between.
Flat: the median RSS of the last quarter against that of the second quarter of the steady phase.

    --rows N       rows of the first phase (5,000,000)
    --minutes M    length of the steady phase (10)
    --rate N       rows per second in it (20,000)
"""

import argparse
import statistics
import time
import urllib.request
from typing import Any

from benchmarks import harness, workload

_SEED = 20_261_124


def _job(running: harness.Platform, rows: int, pause: float, connections: int) -> dict[str, Any]:
    return harness.collector_job(running) | {
        "rows": rows, "rows_per_body": 1000, "connections": connections, "pause": pause,
        "seed": _SEED, "start_ns": time.time_ns() // 1000 * 1000 - rows * workload.STEP_NS,
    }  # fmt: skip


def _search(running: harness.Platform) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.api_port}/logs?search=order&limit=100",
        headers={"Authorization": f"Bearer {running.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=20_000)
    options = parser.parse_args()
    with harness.platform_up() as running:
        load = harness.prepare_load(_job(running, options.rows, 0, 100))
        harness.begin_load(load)
        first = harness.finish_load(load)
        if first["accepted"] != options.rows:
            raise SystemExit(f"accepted {first['accepted']} of {options.rows}: {first['statuses']}")
        connections = 4
        rows = int(options.rate * options.minutes * 60)
        steady = harness.prepare_load(_job(running, rows, connections * 1000 / options.rate, connections))
        harness.begin_load(steady)
        samples: list[dict[str, float]] = []
        began = time.monotonic()
        while steady.poll() is None:
            samples.append(running.rss_mb())
            if len(samples) % 10 == 0:
                _search(running)
            time.sleep(1)
            if time.monotonic() - began > options.minutes * 60 * 2 + 60:
                raise SystemExit("the steady phase takes more than twice its time")
        second = harness.finish_load(steady)
        if second["accepted"] != rows:
            raise SystemExit(f"accepted {second['accepted']} of {rows}: {second['statuses']}")
        peaks = running.peak_rss_mb()
    quarter = max(1, len(samples) // 4)
    growth = {
        role: statistics.median(s[role] for s in samples[-quarter:])
        - statistics.median(s[role] for s in samples[quarter : 2 * quarter])
        for role in peaks
    }
    for role, peak in peaks.items():
        print(f"  {role:<12} peak {peak:6.0f} MB   steady growth {growth[role]:+6.1f} MB")
    harness.report(
        {
            "peak_rss_mb": {role: round(peak) for role, peak in peaks.items()},
            "peak_rss_mb_together": round(sum(peaks.values())),
            "growth_mb": {role: round(value, 1) for role, value in growth.items()},
            "steady_minutes": round((time.monotonic() - began) / 60, 1),
            "rows": options.rows + rows,
            "machine": harness.machine(),
        }
    )


if __name__ == "__main__":
    main()
