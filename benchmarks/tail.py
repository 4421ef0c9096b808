"""`make bench-tail`: from POST to tail clients, on a real `logstream up` with default settings.

    --clients N     WebSocket clients of /api/v1/tail, without filter (50)
    --rate N        single-record POSTs a second (1,000)
    --seconds N     how long (20)

Load generator and clients share one process apart from LogStream (`python -m benchmarks.tail --drive`): a latency
is the time from before a POST is written until a client has the frame, on one clock. Every record of every client
is checked: `missing` counts those that neither came nor were declared in a gap, `gaps` the declared ones.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import time
from array import array
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import harness

_CONNECTIONS = 16
_GRACE_SECONDS = 15.0


class _Metadata(msgspec.Struct):
    n: str


class _Line(msgspec.Struct):
    metadata: _Metadata


class _Frame(msgspec.Struct):
    type: str
    records: list[_Line] = []
    dropped: int | None = 0


_decode = msgspec.json.Decoder(_Frame).decode


class _Run:
    """One measurement: when each record was posted, and what each client has."""

    def __init__(self, total: int, clients: int) -> None:
        self.posted = array("d", bytes(8 * total))
        self.latencies: list[array[float]] = [array("d") for _ in range(clients)]
        self.seen = [bytearray(total) for _ in range(clients)]
        self.counts = [0] * clients
        self.gaps = 0
        self.doubled = 0
        self.late_posts = 0.0

    async def listen(self, client: int, socket: ClientConnection) -> None:
        posted, seen, latencies = self.posted, self.seen[client], self.latencies[client]
        async for text in socket:
            now = time.perf_counter()
            frame = _decode(text)
            self.gaps += frame.dropped or 0
            for line in frame.records:
                number = int(line.metadata.n)
                self.doubled += seen[number]
                seen[number] = 1
                latencies.append(now - posted[number])
            self.counts[client] += len(frame.records)

    async def post(self, job: dict[str, Any], numbers: "itertools.count[int]", start: float) -> None:
        """One keep-alive connection that posts the next record when its time has come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", job["collector_port"])
        head = (
            f"POST /ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {job['key']}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        while (number := next(numbers)) < len(self.posted):
            due = start + number / job["rate"]
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            body = (
                f'{{"service":"payment","level":"info","message":"order {number} confirmed by the card issuer",'
                f'"metadata":{{"n":"{number}","request_id":"{number:032x}"}}}}'
            ).encode()
            now = self.posted[number] = time.perf_counter()
            self.late_posts = max(self.late_posts, now - due)
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(f"a POST was not accepted: {answer[:40]!r}")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length[15:]))
        writer.close()


async def _drive(job: dict[str, Any]) -> dict[str, Any]:
    total, clients = job["rate"] * job["seconds"], job["clients"]
    run = _Run(total, clients)
    url = f"ws://127.0.0.1:{job['api_port']}/api/v1/tail"
    headers = {"Authorization": f"Bearer {job['key']}"}
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url, additional_headers=headers)) for _ in range(clients)]
        for socket in sockets:
            await socket.recv()  # the first heartbeat: from here on every record is this client's
        listening = [asyncio.create_task(run.listen(i, socket)) for i, socket in enumerate(sockets)]
        numbers = itertools.count()
        start = time.perf_counter() + 0.1
        began = time.process_time()
        await asyncio.gather(*(run.post(job, numbers, start) for _ in range(_CONNECTIONS)))
        posting_seconds = time.perf_counter() - start
        deadline = time.perf_counter() + _GRACE_SECONDS
        while sum(run.counts) + run.gaps < total * clients and time.perf_counter() < deadline:
            await asyncio.sleep(0.05)
        spent = time.process_time() - began
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    latencies = sorted(itertools.chain.from_iterable(run.latencies))

    def at(share: float) -> float:
        return round(1000 * latencies[min(len(latencies) - 1, int(len(latencies) * share))], 1)

    return {
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1),
        "missing": total * clients - sum(sum(seen) for seen in run.seen) - run.gaps,
        "gaps": run.gaps,
        "doubled": run.doubled,
        "deliveries": len(latencies),
        "rate": round(total / posting_seconds),
        "latest_post_ms": round(1000 * run.late_posts, 1),
        "generator_cpu_s": round(spent, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        print(json.dumps(uvloop.run(_drive(json.load(sys.stdin)))))
        return 0
    with harness.platform_up() as running:
        job = {
            "clients": options.clients,
            "rate": options.rate,
            "seconds": options.seconds,
            "collector_port": running.collector_port,
            "api_port": running.api_port,
            "key": running.api_key,
        }
        before = running.cpu()
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.tail", "--drive"],
            input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        spent = {role: round(seconds - before.get(role, 0.0), 2) for role, seconds in running.cpu().items()}
        peaks = {role: round(peak) for role, peak in running.peak_rss_mb().items()}
    figures = json.loads(answer.stdout)
    print(f"CPU seconds by process: {spent}; peak RSS, MB: {peaks}")
    harness.report({"clients": options.clients, **figures})
    missed = figures["missing"] or figures["gaps"] or figures["doubled"] or figures["p99_ms"] > 100
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
