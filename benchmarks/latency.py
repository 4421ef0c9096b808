"""`make bench-latency`: from POST to searchable and to a tail client, on Kafka, Postgres and ClickHouse's engine.

    --rates N,N…    logs a second (1000,10000), in requests of --batch logs
    --highest N     also the highest rate that is kept, sought by doubling from here (0: not sought)
    --seconds N     how long at each rate (20)
    --batch N       logs of a request (1 up to 2,000 a second, else 100)
    --each N        collectors, processors and APIs (1)

Generator, tail client and searcher share one process apart from LogStream. A latency is the time from before a
request is written until a line of it is there, on one clock. Every line is checked in the tail. Searchable: fifty
lines a second are marked, and the newest marked ones asked for by `/api/v1/search` again and again, 30 ms between two
questions; so a question's own time (`question_ms`) and its pause are part of the figure.
"""

import argparse
import asyncio
import itertools
import json
import re
import subprocess
import sys
import time
from array import array
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import full_harness, harness
from benchmarks.full_harness import Full

_CONNECTIONS = 16
_GRACE_SECONDS = 30.0
_MARKS_A_SECOND = 50
_NEWEST = 300
_PAUSE_SECONDS = 0.03
_MARK = re.compile(rb'"n": ?"(\d+)"')


class _Metadata(msgspec.Struct):
    n: str
    run: str


class _Line(msgspec.Struct):
    metadata: _Metadata


class _Frame(msgspec.Struct):
    type: str
    records: list[_Line] = []
    dropped: int | None = 0


_decode = msgspec.json.Decoder(_Frame).decode


class _Run:
    """One rate: when each line was posted, and when it came."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.total: int = job["rate"] * job["seconds"]
        self.total -= self.total % job["batch"]
        self.posted = array("d", bytes(8 * self.total))
        self.tailed = array("d", bytes(8 * self.total))
        self.answered: list[float] = []
        self.doubled = self.gaps = self.seen = 0
        self.latest = 0.0
        self.every = max(job["batch"], job["rate"] // _MARKS_A_SECOND)
        self.marks = len(range(0, self.total, self.every))
        self.searched: dict[int, float] = {}
        self.questions: list[float] = []

    async def listen(self, socket: ClientConnection) -> None:
        name = self.job["run"]
        async for text in socket:
            now = time.perf_counter()
            frame = _decode(text)
            self.gaps += frame.dropped or 0
            for line in frame.records:
                if line.metadata.run == name:
                    number = int(line.metadata.n)
                    if self.tailed[number]:
                        self.doubled += 1
                    else:
                        self.tailed[number] = now - self.posted[number]
                        self.seen += 1

    def _service(self, number: int) -> str:
        """Marked lines have a service of their own."""
        return "payment" if number % self.every else str(self.job["run"])

    async def post(self, numbers: "itertools.count[int]", start: float) -> None:
        """One keep-alive connection that posts the next request when its time has come."""
        job, size = self.job, self.job["batch"]
        port = job["collector_ports"][next(job["turn"]) % len(job["collector_ports"])]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {job['key']}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: "
        ).encode()
        while (first := next(numbers) * size) < self.total:
            body = "".join(
                f'{{"service":"{self._service(n)}","level":"info","message":"order {n} confirmed by the card issuer",'
                f'"metadata":{{"n":"{n}","run":"{job["run"]}","request_id":"{n:032x}"}}}}\n'
                for n in range(first, first + size)
            ).encode()
            due = start + first / job["rate"]
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            now = time.perf_counter()
            self.posted[first : first + size] = array("d", [now]) * size
            self.latest = max(self.latest, now - due)
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(f"a POST was not accepted: {answer[:40]!r}")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length[15:]))
            self.answered.append(time.perf_counter() - now)
        writer.close()

    async def search(self, posting: "asyncio.Event") -> None:
        """Look for the newest marked lines again and again, until all are there."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.job["api_port"])
        deadline = None
        while len(self.searched) < self.marks and (deadline is None or time.perf_counter() < deadline):
            began = time.perf_counter()
            # At the end also those that so many newer ones hid.
            body = await self._ask(reader, writer, _NEWEST if deadline is None else 10_000)
            now = time.perf_counter()
            self.questions.append(now - began)
            for found in _MARK.finditer(body):
                self.searched.setdefault(int(found[1]), now - self.posted[int(found[1])])
            if posting.is_set() and deadline is None:
                deadline = now + _GRACE_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> bytes:
        path = f"/api/v1/search?query=service:{self.job['run']}&limit={limit}&start_time={self.job['since']}"
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.job['key']}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length[15:]))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a search failed: {body[:300]!r}")
        return body


def _quantiles(values: list[float], name: str) -> dict[str, float]:
    ordered = sorted(values)
    return {
        f"{name}_p{share:g}_ms": round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))], 1)
        for share in (50, 95, 99)
    }


async def _drive(job: dict[str, Any]) -> dict[str, Any]:
    job["turn"] = itertools.count()
    run = _Run(job)
    url = f"ws://127.0.0.1:{job['api_port']}/api/v1/tail"
    async with connect(url, additional_headers={"Authorization": f"Bearer {job['key']}"}) as socket:
        await socket.recv()  # the first heartbeat: from here on every line is this client's
        listening = asyncio.create_task(run.listen(socket))
        requests, posted = itertools.count(), asyncio.Event()
        start = time.perf_counter() + 0.1
        began = time.process_time()
        searching = asyncio.create_task(run.search(posted))
        await asyncio.gather(*(run.post(requests, start) for _ in range(_CONNECTIONS)))
        posting_seconds = time.perf_counter() - start
        posted.set()
        await searching
        deadline = time.perf_counter() + _GRACE_SECONDS
        while run.seen + run.gaps < run.total and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        spent = time.process_time() - began
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return {
        "rate": round(run.total / posting_seconds),
        **_quantiles(list(run.searched.values()), "searchable"),
        **_quantiles([seconds for seconds in run.tailed if seconds], "tailed"),
        **_quantiles(run.answered, "post"),
        **_quantiles(run.questions, "question"),
        "marked": run.marks,
        "not_found": run.marks - len(run.searched),
        "missing": run.total - run.seen - run.gaps,
        "gaps": run.gaps,
        "doubled": run.doubled,
        "latest_post_ms": round(1000 * run.latest, 1),
        "generator_cpu_s": round(spent, 1),
    }


def _measure(full: Full, rate: int, seconds: int, batch: int) -> dict[str, Any]:
    job = {
        "rate": rate, "seconds": seconds, "batch": batch or (1 if rate <= 2_000 else 100), "run": f"r{time.time_ns()}",
        "collector_ports": full.collector_ports, "api_port": full.api_port, "key": full.api_key,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60)),
    }  # fmt: skip
    before = full.cpu()
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.latency", "--drive"],
        input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(answer.stdout)
    figures["cpu_s"] = full_harness.spent_since(full, before)
    print(f"{rate:,} a second, {job['batch']} a request: {figures}", flush=True)
    return figures


def _kept(figures: dict[str, Any], rate: int) -> bool:
    """Whether a rate is sustained: posted in time, nothing missing, and searchable within seconds."""
    whole = not figures["missing"] and not figures["not_found"] and not figures["gaps"]
    return bool(whole and figures["rate"] > 0.97 * rate and figures["searchable_p99_ms"] < 5_000)


def main() -> int:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,10000")
    parser.add_argument("--highest", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        print(json.dumps(uvloop.run(_drive(json.load(sys.stdin)))))
        return 0
    found: dict[int, dict[str, Any]] = {}
    with full_harness.full_up(options.each) as full:
        full.database()
        _measure(full, 1_000, 5, 0)  # warm
        for rate in (int(rate) for rate in options.rates.split(",") if rate):
            found[rate] = _measure(full, rate, options.seconds, options.batch)

        def is_kept(rate: int) -> bool:
            figures = _measure(full, rate, options.seconds, options.batch)
            kept = _kept(figures, rate)
            if kept:
                found[rate] = figures
            return kept

        rate = options.highest
        while rate and is_kept(rate):
            rate *= 2
        if rate > options.highest:
            is_kept(rate * 3 // 4)  # halfway between the last two
        peaks = {role: round(peak) for role, peak in full.peak_rss_mb().items()}
    names = ("searchable_p50_ms", "searchable_p95_ms", "searchable_p99_ms", "tailed_p50_ms", "tailed_p95_ms",
             "tailed_p99_ms", "cpu_s", "missing", "not_found", "doubled", "gaps")  # fmt: skip
    harness.report({
        **{name: {str(rate): figures[name] for rate, figures in found.items()} for name in names},
        "highest_rate": max(found), "peak_rss_mb": peaks, "machine": full_harness.machine(),
    })  # fmt: skip
    wrong = any(figures[name] for figures in found.values() for name in ("missing", "not_found", "doubled"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
