"""`make bench-export`: every line out through the HTTP API, as NDJSON, CSV and Parquet.

Rows a second and a CPU-second of LogStream, and how much more memory its processes take meanwhile. Every file is read
again by ClickHouse: as many lines as were sent, with the same checksums.

    --rows N         rows (1,000,000)
    --order ORDER    any, asc or desc (any)
    --gzip           NDJSON and CSV compressed on the way
"""

import argparse
import http.client
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import harness, workload

_SEED = 20_261_125
_FORMATS = {
    "ndjson": ("JSONEachRow", "metadata Map(String, String)", "metadata['request']"),
    "csv": ("CSVWithNames", "metadata String", "JSONExtractString(metadata, 'request')"),
    "parquet": ("Parquet", "metadata Map(String, String)", "metadata['request']"),
}


def _load(running: harness.Platform, rows: int) -> dict[str, int]:
    """What was sent, as checksums."""
    start = time.time_ns() // 1000 * 1000 - rows * workload.STEP_NS
    job = harness.collector_job(running) | {
        "rows": rows, "rows_per_body": 1000, "connections": 20, "seed": _SEED, "start_ns": start,
    }  # fmt: skip
    load = harness.prepare_load(job)
    harness.begin_load(load)
    sent = harness.finish_load(load)
    table = f"{running.database()}.logs"
    deadline = time.monotonic() + 120
    while int(running.sql(f"SELECT count() FROM {table}")[0][0]) < rows:
        if time.monotonic() > deadline:
            raise TimeoutError("not every row was stored")
        time.sleep(0.1)
    sums: dict[str, int] = sent["sums"]
    return sums


def _export(running: harness.Platform, name: str, order: str, gzip: bool, file: Path) -> dict[str, Any]:
    before = {role: running.rss_mb()[role] for role in ("app", "engine")}
    for role, process in running.processes().items():
        if role in before:
            # Resets VmHWM (proc(5)).
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    cpu = running.cpu()
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", running.api_port, timeout=120)
    query = urlencode({"format": name, "order": order, "start_time": "2000-01-01"})
    headers = {"Authorization": f"Bearer {running.api_key}", "Accept-Encoding": "gzip" if gzip else "identity"}
    connection.request("GET", f"/api/v1/export?{query}", headers=headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    size = 0
    packed = zlib.decompressobj(16 + zlib.MAX_WBITS) if answer.getheader("Content-Encoding") == "gzip" else None
    with file.open("wb") as out:
        while piece := answer.read(1 << 20):
            size += len(piece)
            out.write(packed.decompress(piece) if packed else piece)
    connection.close()
    seconds = time.perf_counter() - began
    after, peaks = running.cpu(), running.peak_rss_mb()
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": {role: round(after[role] - cpu[role], 2) for role in before},
        "megabytes": round(size / 1e6),
        "rss_growth_mb": {role: round(peaks[role] - before[role]) for role in before},
    }


def _sums(name: str, file: Path) -> dict[str, int]:
    """The file as ClickHouse reads it; in a process of its own."""
    format_name, metadata, request = _FORMATS[name]
    columns = f"timestamp DateTime64(9, ''UTC''), service String, level String, message String, {metadata}"
    sql = (
        f"SELECT count(), sum(CRC32(message)), sum(CRC32({request})), sum(toInt128(toUnixTimestamp64Nano(timestamp)))"
        f" FROM file('{file}', '{format_name}', '{columns}, trace_id String, span_id String')"
        " SETTINGS date_time_input_format = 'best_effort'"
    )
    program = "import chdb, sys; sys.stdout.write(str(chdb.query(sys.argv[1], 'TSV')))"
    out = subprocess.run([sys.executable, "-c", program, sql], check=True, capture_output=True, text=True).stdout
    return dict(zip(("rows", "message_crc", "id_crc", "time_sum"), map(int, out.split()), strict=True))


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--order", choices=("any", "asc", "desc"), default="any")
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with harness.platform_up() as running, tempfile.TemporaryDirectory(prefix="logstream-export-") as folder:
        sums = _load(running, options.rows)
        for name in _FORMATS:
            file = Path(folder) / f"all.{name}"
            found = _export(running, name, options.order, options.gzip, file)
            if (read := _sums(name, file)) != sums:
                raise SystemExit(f"{name}: {read} came out of {sums}")
            file.unlink()
            found["rows_per_second"] = round(options.rows / found["seconds"])
            found["rows_per_cpu_second"] = round(options.rows / sum(found["cpu_seconds"].values()))
            figures[name] = found
            growth = found["rss_growth_mb"]
            print(
                f"  {name:<8} {found['rows_per_second']:>9,} rows/s {found['rows_per_cpu_second']:>9,} rows/CPU-s"
                f" {found['megabytes']:>5} MB   RSS app {growth['app']:+} MB, engine {growth['engine']:+} MB"
            )
    harness.report(
        {"rows": options.rows, "order": options.order, "gzip": options.gzip, "export": figures}
        | {"machine": harness.machine()}
    )


if __name__ == "__main__":
    main()
