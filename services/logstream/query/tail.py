"""Live tail of one stream, fed by the bus: one reader for all clients.

A record of the bus is decoded once, each distinct filter is evaluated once, each line is rendered once, and
clients with the same filter share the frame. Nothing is read while nobody listens.

A client without a cursor begins at the newest line. With one, it first catches up by itself: from the store as
far as the bus has dropped its records, then from the bus, at its own pace and without loss, until it has reached
the shared reader; there it is joined, in the same step of the event loop as the comparison. A joined client that
takes frames too slowly loses whole frames, which its queue counts and declares as one gap.

Positions are compared, not assumed: a client may join ahead of the shared reader (it had read further), and then
gets frames of its own until the reader has passed it.
"""

import asyncio
from collections.abc import Sequence

from logstream.bus.known import known_topic
from logstream.bus.protocol import Bus, Message, Topic
from logstream.errors import BusUnavailable, NotFound, OffsetOutOfRange, ShuttingDown, TooExpensive, TooMany
from logstream.logs import get_logger
from logstream.metrics import TAIL_CLIENTS, TAIL_REFUSED
from logstream.query.cursor import Cursor, Position, Positions, moved, stream_tag
from logstream.query.filter import LogFilter
from logstream.query.frames import Lines, Piece, match
from logstream.query.logs import LogReader
from logstream.query.pieces import PIECE_BYTES, PIECE_ROWS, cut
from logstream.query.tail_client import TailClient
from logstream.stream import Stream

BATCH_SECONDS = 0.02
"""Lines of this long go out as one frame: 50 clients cost 50 frames a second each, whatever the rate."""
_READ_BYTES = 1024 * 1024
_READ_WAIT = 5.0
_RETRY_SECONDS = 0.5
_WATCH_SECONDS = 5.0
"""How soon clients hear that their topic is another one."""

_log = get_logger("tail")


class TailClients:
    """How many tail clients this process has, over all streams."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0

    def take(self, stream: str) -> None:
        """Count one more. Raises TooMany at the limit."""
        if self.count >= self.limit:
            TAIL_REFUSED.labels(stream).inc()
            raise TooMany(
                f"{self.limit} tail clients are connected, which is the limit (tail_max_clients)",
                retry_after=5,
                field="tail_max_clients",
                limit=self.limit,
            )
        self.count += 1
        TAIL_CLIENTS.labels(stream).inc()

    def give_back(self, stream: str) -> None:
        self.count -= 1
        TAIL_CLIENTS.labels(stream).dec()


class Tail:
    """The shared reader of one stream, and its clients."""

    def __init__(
        self, bus: Bus, reader: LogReader, stream: Stream, clients: TailClients, *, queue_records: int
    ) -> None:
        self.bus = bus
        self.reader = reader
        self.stream = stream
        self.queue_records = queue_records
        self._clients = clients
        self._tag = stream_tag(stream)
        self._topic: Topic | None = None
        self._starting = asyncio.Lock()
        self._pumps: list[asyncio.Task[None]] = []
        self._positions: Positions = ()
        self._joined: dict[LogFilter, set[TailClient]] = {}
        self._open: set[TailClient] = set()
        self._closed = False

    @property
    def topic(self) -> Topic:
        """The stream's topic, once the first client was opened."""
        assert self._topic is not None
        return self._topic

    async def open(self, logs: LogFilter, cursor: Cursor | None = None, *, lossless: bool = False) -> TailClient:
        """A new client; whoever opens it closes it.

        lossless: a client that is too slow ends (`TailClient.overrun`) instead of getting gaps.
        Raises TooMany, ShuttingDown, BusUnavailable.
        """
        if self._closed:
            raise ShuttingDown("the server is stopping")
        self._clients.take(self.stream.name)
        client = TailClient(self, logs, lossless=lossless)
        self._open.add(client)
        try:
            await self._start()
            client.begin(cursor, await self._ends())
        except BaseException:
            self.release(client)
            raise
        return client

    async def _start(self) -> None:
        async with self._starting:
            if self._pumps:
                return
            self._topic = await known_topic(self.bus, self.stream.topic)
            partitions = range(self._topic.partitions)
            self._positions = await self._ends()
            self._pumps = [asyncio.create_task(self._pump(p), name=f"tail-{self.stream.name}-{p}") for p in partitions]
            self._pumps.append(asyncio.create_task(self._watch(), name=f"tail-{self.stream.name}-topic"))

    async def _ends(self) -> Positions:
        """Where the next record of each partition will be."""
        name, partitions = self.topic.name, range(self.topic.partitions)
        return tuple([Position((await self.bus.offsets(name, partition)).end) for partition in partitions])

    def release(self, client: TailClient) -> None:
        """Forget `client`; the last one to leave stops the reader."""
        if client not in self._open:
            return
        self._open.discard(client)
        self.leave(client)
        self._clients.give_back(self.stream.name)
        if not self._open:
            for pump in self._pumps:
                pump.cancel()
            self._pumps = []

    async def close(self) -> None:
        """End every client and stop reading. Idempotent."""
        self._closed = True
        pumps = list(self._pumps)
        for client in list(self._open):
            client.end()
            self.release(client)
        await asyncio.gather(*pumps, return_exceptions=True)

    # The shared reader

    @property
    def positions(self) -> Positions:
        """Where the shared reader stands."""
        return self._positions

    def cursor(self, positions: Positions) -> str:
        """The text a client keeps."""
        return Cursor(self._tag, self.topic.incarnation, positions).encode()

    def join(self, client: TailClient) -> bool:
        """Feed `client` from now on, if the shared reader has nothing that it lacks."""
        if not all(own >= shared for own, shared in zip(client.positions, self._positions, strict=True)):
            return False
        self._joined.setdefault(client.logs, set()).add(client)
        return True

    def leave(self, client: TailClient) -> None:
        """Feed `client` no longer."""
        group = self._joined.get(client.logs)
        if group is not None:
            group.discard(client)
            if not group:
                del self._joined[client.logs]

    async def _pump(self, partition: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                messages = await self.bus.read(
                    self.topic.name,
                    partition,
                    self._positions[partition].offset,
                    max_bytes=_READ_BYTES,
                    wait=_READ_WAIT,
                )
                began = loop.time()
                await self._feed(partition, messages)
                # Lines that come within this pause share the next frame.
                await asyncio.sleep(max(0.0, BATCH_SECONDS - (loop.time() - began)))
            except OffsetOutOfRange as error:
                # The bus dropped records before they were read here: every client reads them for itself.
                _log.warning("tail fell behind the log", stream=self.stream.name, partition=partition)
                self._skip(partition, Position(error.end))
            except BusUnavailable as error:
                _log.warning("tail cannot read the log", stream=self.stream.name, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            except NotFound:
                # The topic was deleted; `_watch` tells.
                await asyncio.sleep(_RETRY_SECONDS)

    async def _watch(self) -> None:
        """Send all clients away when the topic is another one: deleted, made anew, or with more partitions. They come
        back with their cursors, which know what to do then."""
        name = self.topic.name
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            topic: Topic | None = None
            try:
                await self.bus.offsets(name, 0)
                topic = await self.bus.topic(name)
            except NotFound:
                pass
            except BusUnavailable:
                continue
            if topic != self.topic:
                break
        _log.warning("tail ends: its topic changed", stream=self.stream.name)
        for client in list(self._open):
            client.refuse(ShuttingDown("the stream's topic was changed; come back with the cursor"))
            self.release(client)

    def _skip(self, partition: int, position: Position) -> None:
        self._positions = moved(self._positions, partition, position)
        for client in [client for group in self._joined.values() for client in group]:
            self.leave(client)
            client.detach()

    async def _feed(self, partition: int, messages: Sequence[Message]) -> None:
        """Give the lines of `messages` to the clients, in steps of bounded size."""
        pieces: list[Piece] = []
        rows = size = 0
        after = self._positions[partition]
        for message in messages:
            async for piece, position in cut(message):
                # A large record comes in several pieces; those of small records are joined.
                if piece is not None:
                    pieces.append(piece)
                    rows += len(piece.batch)
                after = position
                if rows >= PIECE_ROWS:
                    self._step(partition, pieces, after)
                    pieces, rows, size = [], 0, 0
                    await asyncio.sleep(0)
            size += len(message.value)
            if size >= PIECE_BYTES:
                self._step(partition, pieces, after)
                pieces, rows, size = [], 0, 0
                await asyncio.sleep(0)
        if after != self._positions[partition]:
            self._step(partition, pieces, after)

    def _step(self, partition: int, pieces: Sequence[Piece], after: Position) -> None:
        """Move on to `after`, handing out `pieces`. Nothing else runs meanwhile."""
        before = self._positions
        self._positions = moved(before, partition, after)
        cursor = self.cursor(self._positions)
        for logs, group in list(self._joined.items()):
            lines: Lines | None = None
            try:
                for client in list(group):
                    if client.positions == before:
                        if lines is None:
                            lines = Lines(match(logs, pieces), cursor)
                        client.take(lines, self._positions)
                    else:
                        self._step_ahead(client, partition, pieces, after)
            except TooExpensive as error:
                for client in list(group):
                    self.leave(client)
                    client.refuse(error)

    def _step_ahead(self, client: TailClient, partition: int, pieces: Sequence[Piece], after: Position) -> None:
        """For a client that is ahead of the shared reader: only what it has not had yet, with a cursor of its own."""
        own = client.positions
        matched = match(client.logs, pieces, own[partition])
        positions = moved(own, partition, max(own[partition], after))
        client.take(Lines(matched, self.cursor(positions)), positions)
