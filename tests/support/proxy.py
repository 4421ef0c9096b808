"""A proxy on a fixed port before a server that may go away, restart, fall silent, or have its answers lost."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """upstream: the server's port, None while it is away. lose: how many answers are still to be lost.

    silent: what is sent arrives, and nothing comes back. lost: how many were lost. connections: how many were made.
    """

    def __init__(self, scheme: str = "http") -> None:
        self._scheme = scheme
        self._writers: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.upstream: int | None = None
        self.lose = 0
        self.lost = 0
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.upstream is not None:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
                forward = asyncio.create_task(self._copy(reader, up_writer))
                try:
                    await self._answer(up_reader, writer)
                finally:
                    forward.cancel()
                    up_writer.close()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def cut(self) -> None:
        """End every connection, whatever it is about."""
        for writer in self._writers:
            writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.lose:
                # The collector has answered, so that it has handled the request; nobody hears of it.
                self.lose -= 1
                self.lost += 1
                return
            while self.silent:
                await asyncio.sleep(0.01)
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy(context: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A proxy that serves until the block ends. context: speak TLS with whoever connects."""
    running = Proxy("http" if context is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await running.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
