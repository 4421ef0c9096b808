"""Clients that number their lines and repeat each request until it is answered 202, and a proxy that cuts them off."""

import asyncio
import contextlib
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.chaos_books import ACKNOWLEDGED, SENT, text_of

_ATTEMPT_SECONDS = 30.0
_LONGEST_PAUSE = 3.0
_LARGE = 1_000
"""Lines of one request in twenty."""
_USUAL = 80


class Cutter:
    """A TCP proxy before each of `upstreams` that cuts about `rate` of what passes, in the middle, both ways.

    Runs in a thread of its own. ports: where it listens, one for each upstream.
    """

    def __init__(self, upstreams: Sequence[int], seed: int, rate: float) -> None:
        self.ports: list[int] = []
        self.cuts = 0
        self._upstreams = upstreams
        self._chance = random.Random(f"{seed}/cuts")
        self._rate = rate
        self._open: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="cutter", daemon=True)

    def __enter__(self) -> "Cutter":
        self._thread.start()
        if not self._started.wait(30):
            raise TimeoutError("the proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def cut(self) -> None:
        """End every connection at once."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        self.cuts += len(self._open) // 2
        for writer in self._open:
            writer.transport.abort()

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        servers = []
        for upstream in self._upstreams:

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int = upstream
            ) -> None:
                task = asyncio.current_task()
                assert task is not None
                tasks.add(task)
                try:
                    await self._serve(reader, writer, upstream)
                finally:
                    tasks.discard(task)

            servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        self.ports = [int(server.sockets[0].getsockname()[1]) for server in servers]
        self._started.set()
        await self._over.wait()
        for server in servers:
            server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, up_writer}
        self._open |= both
        ways = {
            asyncio.create_task(self._copy(reader, up_writer)), asyncio.create_task(self._copy(up_reader, writer)),
        }  # fmt: skip
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._open -= both
            for end in both:
                end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 15):
                if self._chance.random() < self._rate:
                    self.cuts += 1
                    # What was passed on arrives; whoever waits for the rest hears of a reset.
                    writer.write(data[: self._chance.randrange(len(data))])
                    await writer.drain()
                    await asyncio.sleep(self._chance.choice((0.0, 0.02)))
                    return
                writer.write(data)
                await writer.drain()


class Client(threading.Thread):
    """Sends numbered lines to any of `ports`, as docs/ingest.md says clients should.

    states: of each line by its number (`chaos_books`). One request in 30 is not repeated after a failure, as by a
    client that died; one in 20 is repeated although it was answered 202, as by a client that forgot.
    """

    def __init__(self, number: int, seed: int, ports: Sequence[int], key: str, pause: float) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.number = number
        self.states = bytearray()
        self.acknowledged = 0
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []
        self.over = threading.Event()
        self.longest_outage = 0.0
        self._seed = seed
        self._chance = random.Random(f"{seed}/client/{number}")
        self._ports = ports
        self._headers = {"Authorization": f"Bearer {key}"}
        self._pause = pause
        self._connections: dict[int, http.client.HTTPConnection] = {}

    def run(self) -> None:
        requests = 0
        while not self.over.is_set():
            requests += 1
            first, count = len(self.states), self._count()
            body = self._body(first, count)
            key = f"{self._seed}-{self.number}-{requests}"
            self.states.extend(bytes([SENT]) * count)
            began = time.monotonic()
            while not (taken := self._post(key, body, count)) and self._chance.random() > 1 / 30:
                pass
            if taken:
                self.states[first : first + count] = bytes([ACKNOWLEDGED]) * count
                self.acknowledged += count
                self.longest_outage = max(self.longest_outage, time.monotonic() - began)
                if self._chance.random() < 1 / 20:
                    self._post(key, body, count)
            self.over.wait(self._chance.random() * 2 * self._pause)
        for connection in self._connections.values():
            connection.close()

    def _count(self) -> int:
        dice = self._chance.random()
        if dice < 0.2:
            return 1
        return self._chance.randint(1, _LARGE if dice > 0.95 else _USUAL)

    def _body(self, first: int, count: int) -> bytes:
        return b"\n".join(
            json.dumps({
                "service": f"chaos-{self.number}",
                "message": text_of(self._seed, self.number, number),
                "metadata": {"client": str(self.number), "n": str(number)},
            }).encode()
            for number in range(first, first + count)
        )  # fmt: skip

    def _post(self, key: str, body: bytes, count: int) -> bool:
        """One attempt; after one that failed, a pause."""
        port = self._chance.choice(self._ports)
        connection = self._connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ATTEMPT_SECONDS)
            self._connections[port] = connection
        try:
            connection.request("POST", "/ingest", body, {**self._headers, "Idempotency-Key": key})
            answer = connection.getresponse()
            text = answer.read()
            # Cut off within its headers, which http.client takes for their end, it is no JSON.
            said = json.loads(text)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError):
                self.faults.append(f"no answer within {_ATTEMPT_SECONDS:g} s")
            self.statuses["cut" if not isinstance(error, TimeoutError) else "silent"] += 1
            connection.close()
            self._rest(0.1)
            return False
        self.statuses[str(answer.status)] += 1
        if answer.status == 202:
            accepted = said.get("accepted")
            if accepted != count:
                self.faults.append(f"202, and {accepted} of {count} lines were accepted: {text[:200]!r}")
            return True
        if answer.status not in {429, 503} or answer.getheader("Retry-After") is None:
            self.faults.append(f"{answer.status} {text[:300]!r}")
        self._rest(float(answer.getheader("Retry-After") or 1))
        return False

    def _rest(self, seconds: float) -> None:
        time.sleep(min(_LONGEST_PAUSE, seconds) * (0.5 + self._chance.random()))
