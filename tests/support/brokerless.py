"""A Kafka broker that at times knows of no brokers, as one does that was just started: topics, and nobody to ask."""

import asyncio
import struct

_API_VERSIONS, _METADATA, _FIND_COORDINATOR = 18, 3, 10
_APIS = {
    _API_VERSIONS: (0, 0),
    _METADATA: (0, 4),
    _FIND_COORDINATOR: (0, 0),
    1: (0, 4),
    2: (0, 1),
    8: (0, 2),
    9: (0, 1),
}
_UNSUPPORTED_VERSION, _COORDINATOR_NOT_AVAILABLE, _LEADER_NOT_AVAILABLE = 35, 15, 5


def _string(text: str | None) -> bytes:
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


class Brokerless:
    """Answers what a client asks to find its brokers, and nothing else; its one topic has no leader.

    lists_itself: whether it says that there is a broker, which is itself.
    """

    def __init__(self, topic: str) -> None:
        self.lists_itself = True
        self.port = 0
        self._topic = topic
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset all connections."""
        for connection in self._connections:
            connection.transport.abort()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()
        while self._connections:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                api, version, correlation = struct.unpack_from(">hhi", request)
                answer = struct.pack(">i", correlation) + self._answer(api, version)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, api: int, version: int) -> bytes:
        if api == _API_VERSIONS:
            ranges = b"".join(struct.pack(">hhh", key, *versions) for key, versions in _APIS.items())
            return struct.pack(">hi", _UNSUPPORTED_VERSION if version else 0, len(_APIS)) + ranges
        if api == _METADATA:
            return self._metadata()
        assert api == _FIND_COORDINATOR, f"not asked for: {api}"
        return struct.pack(">hi", _COORDINATOR_NOT_AVAILABLE, -1) + _string("") + struct.pack(">i", -1)

    def _metadata(self) -> bytes:
        """Version 4 (KIP-4 and what came with it): throttling, brokers, cluster, controller, topics."""
        broker = struct.pack(">i", 1) + _string("127.0.0.1") + struct.pack(">i", self.port) + _string(None)
        brokers = struct.pack(">i", 1) + broker if self.lists_itself else struct.pack(">i", 0)
        partition = struct.pack(">hiiii", _LEADER_NOT_AVAILABLE, 0, -1, 0, 0)
        topic = struct.pack(">h", 0) + _string(self._topic) + b"\0" + struct.pack(">i", 1) + partition
        cluster = _string("cluster") + struct.pack(">i", -1)
        return struct.pack(">i", 0) + brokers + cluster + struct.pack(">i", 1) + topic
