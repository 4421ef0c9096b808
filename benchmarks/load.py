"""A lean HTTP/1.1 load client: many keep-alive connections, each posting the next body when its answer is in.

It runs in a process of its own (`python -m benchmarks.load`), so that its CPU time is not LogStream's.
"""

import asyncio
import collections
import itertools
import json
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import uvloop

from benchmarks import workload


@dataclass(slots=True)
class Totals:
    """What the answers said. `latencies` in seconds, one a request."""

    requests: int = 0
    accepted: int = 0
    statuses: "collections.Counter[int]" = field(default_factory=collections.Counter)
    latencies: list[float] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """One request at a time; the answer must carry Content-Length (or be a 204)."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._resume = asyncio.Event()
        self._resume.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        status = int(head[9:12])
        length = 0
        for line in head.split(b"\r\n")[1:]:
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        if len(rest) >= length and self._answer is not None and not self._answer.done():
            self._buffer = b""
            self._answer.set_result((status, rest))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    async def post(self, request: bytes) -> tuple[int, bytes]:
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer


async def drive(
    host: str,
    port: int,
    path: str,
    headers: dict[str, str],
    bodies: Iterator[bytes],
    connections: int,
    pause: float = 0,
    rate: float = 0,
) -> Totals:
    """Post every body once; a 429 or 503 is tried again after a pause. `pause`: seconds between two posts of a
    connection. `rate`: requests a second of all connections together, each in its time; 0: as fast as it goes."""
    totals = Totals()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())

    numbers = itertools.count()
    start = time.perf_counter()

    async def run() -> None:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port)
        for body in bodies:
            if rate and (early := start + next(numbers) / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            while True:
                began = time.perf_counter()
                status, answer = await connection.post(request)
                totals.latencies.append(time.perf_counter() - began)
                totals.requests += 1
                totals.statuses[status] += 1
                if status == 202:
                    totals.accepted += json.loads(answer)["accepted"]
                if status not in {429, 503}:
                    break
                await asyncio.sleep(0.2)
            if pause:
                await asyncio.sleep(pause)
        assert connection.transport is not None
        connection.transport.close()

    await asyncio.gather(*(run() for _ in range(connections)))
    return totals


def main() -> None:
    """First line of standard input: the job as one JSON object; its `batches` are [first, end), all when it has none.
    Answers "ready" once every body is made, waits for
    a second line, then drives and writes the result as one JSON object, checksums of what was sent included."""
    job = json.loads(sys.stdin.readline())
    work = workload.Workload(job["rows"], job["rows_per_body"], seed=job["seed"], start_ns=job["start_ns"])
    made: list[bytes] = []
    message_crc = id_crc = time_sum = 0
    for number in range(*job.get("batches", (0, work.batches))):
        batch = work.batch(number)
        made.append(workload.to_ndjson(batch))
        message_crc += sum(zlib.crc32(message.encode()) for message in batch.messages)
        id_crc += sum(zlib.crc32(metadata["request"].encode()) for metadata in batch.metadata)
        time_sum += sum(batch.timestamps)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    totals = uvloop.run(
        drive(
            job["host"],
            job["port"],
            job["path"],
            job["headers"],
            iter(made),
            job["connections"],
            job.get("pause", 0),
            job.get("rate", 0),
        )
    )
    latencies = sorted(totals.latencies)
    json.dump(
        {
            "requests": totals.requests,
            "accepted": totals.accepted,
            "statuses": {str(k): v for k, v in totals.statuses.items()},
            "seconds": time.perf_counter() - began,
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
            "body_bytes": sum(map(len, made)),
            "cpu_seconds": time.process_time(),
            "sums": {"rows": job["rows"], "message_crc": message_crc, "id_crc": id_crc, "time_sum": time_sum},
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
