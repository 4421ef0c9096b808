"""Records what HTTP clients send to the engine, and how it answers: one JSON object a line.

`python -m tests.support.recorder` writes tests/data/engine_requests.jsonl anew from the installed
clickhouse-connect and curl. Read the difference before committing it.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import clickhouse_connect
import httptools

from tests.support.engine import EngineProcess

FILE = Path(__file__).parent.parent / "data" / "engine_requests.jsonl"
TABLE = "recorded.t"


class _Request:
    """Collects one request while httptools parses it."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode().lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


class Relay:
    """Forwards connections to the engine and keeps the requests that pass, in order."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.requests: list[dict[str, Any]] = []
        self._stop = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection, until either side closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        directions = {
            asyncio.create_task(self._forth(reader, up_writer)),
            asyncio.create_task(_back(up_reader, writer)),
        }
        await asyncio.wait({*directions, asyncio.create_task(self._stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        for one in (writer, up_writer):
            one.close()
            with contextlib.suppress(ConnectionError):
                await one.wait_closed()

    async def close(self) -> None:
        """End the connections; a client may keep its own open for later."""
        self._stop.set()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _forth(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        request = _Request()
        parser = httptools.HttpRequestParser(request)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                parser.feed_data(data)
                if request.done:
                    self._keep(parser.get_method().decode(), request)
                    request = _Request()
                    parser = httptools.HttpRequestParser(request)
                up_writer.write(data)
                await up_writer.drain()

    def _keep(self, method: str, request: _Request) -> None:
        drop = ("host", "user-agent", "content-length", "transfer-encoding", "connection", "accept", "authorization")
        target = urlsplit(request.target.decode())
        try:
            body: dict[str, str] = {"text": request.body.decode()}
        except UnicodeDecodeError:
            body = {"base64": base64.b64encode(request.body).decode()}
        self.requests.append({
            "method": method,
            "path": target.path,
            "query": [(n, "recorded" if n == "query_id" else v) for n, v in parse_qsl(target.query, True)],
            "headers": [(n, v) for n, v in request.headers if n not in drop],
            "body": body,
        })  # fmt: skip


async def _back(up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await up_reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _async_client(url: str) -> None:
    for compress in (False, "lz4", "zstd", "gzip"):
        client = await clickhouse_connect.get_async_client(dsn=url, compress=compress)
        try:
            await _calls(client)
        finally:
            await client.close()


async def _calls(client: Any) -> None:
    await client.query(
        "SELECT {s:String} AS s, {n:Array(Int32)} AS n, {t:DateTime64(9)} AS t",
        parameters={"s": "it's \\ \t é\n", "n": [1, 2], "t": "2020-01-02 03:04:05.123456789"},
        settings={"max_threads": 1, "max_execution_time": 30},
    )
    await client.query("SELECT length({long:String})", parameters={"long": "x" * 6_000})
    await client.query("SELECT number FROM numbers(3)", transport_settings={"X-Custom": "1"})
    async with await client.query_rows_stream("SELECT number FROM numbers(70000)") as rows:
        async for _ in rows:
            pass
    await client.raw_query("SELECT 1 AS one", fmt="JSONEachRow")
    await client.insert(
        TABLE, [[1, "a"], [2, "b"]], column_names=["a", "b"], settings={"insert_deduplication_token": "i"}
    )
    await client.raw_insert(
        TABLE, ["a", "b"], insert_block=b"3\tc\n4\td\n", fmt="TabSeparated",
        settings={"insert_deduplication_token": "r", "async_insert": 1},
    )  # fmt: skip

    async def pieces() -> Any:
        yield b"5\te\n"
        yield b"6\tf\n"

    await client.raw_insert(TABLE, ["a", "b"], insert_block=pieces(), fmt="TabSeparated")
    await client.command(f"SELECT count() FROM {TABLE}")
    await client.command("ALTER TABLE recorded.t MODIFY COMMENT 'x'", settings={"alter_sync": 1})
    for bad in (f"SELECT nothing FROM {TABLE}", "SELECT throwIf(1)", "SELEC 1"):
        with contextlib.suppress(Exception):
            await client.query(bad)


def _sync_client(url: str) -> None:
    client = clickhouse_connect.get_client(dsn=url)
    try:
        client.query("SELECT {a:UInt8}", parameters={"a": 1})
        client.insert(TABLE, [[7, "g"]], column_names=["a", "b"])
        client.raw_insert(TABLE, ["a", "b"], insert_block=b"8,h\n", fmt="CSV", compression=None)
        client.command(f"SELECT max(a) FROM {TABLE}")
        client.ping()
    finally:
        client.close()


def _curl(url: str) -> None:
    for arguments in (
        [f"{url}/ping"],
        [f"{url}/?query=SELECT+1"],
        [url, "--data-binary", "SELECT 2 FORMAT JSONCompact"],
        [f"{url}/?query=SELECT", "--data-binary", "3"],
        [f"{url}/?query=INSERT+INTO+{TABLE}+FORMAT+CSV", "--data-binary", "9,i\n10,j\n"],
        [url, "--data-binary", f"INSERT INTO {TABLE} (a, b) VALUES (11, 'k')"],
        [f"{url}/?param_n=5&database=recorded&default_format=JSONEachRow", "--data-binary", "SELECT {n:UInt8} AS n"],
        [url, "-H", "X-ClickHouse-Database: recorded", "-H", "X-ClickHouse-Format: CSV", "-d", "SELECT 1 FROM t"],
        [url, "-F", "query=SELECT {s:String}", "-F", "param_s=form"],
        [f"{url}/?enable_http_compression=1", "--compressed", "--data-binary", "SELECT number FROM numbers(10)"],
    ):  # fmt: skip
        subprocess.run(["curl", "-sS", *arguments], check=True, stdout=subprocess.DEVNULL)


def replay(url: str, requests: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Send each request once more; what came back: status, headers that clients read, small text bodies."""
    port = int(url.rpartition(":")[2])
    for request in requests:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        target = request["path"] + ("?" + urlencode(request["query"]) if request["query"] else "")
        connection.request(request["method"], target, body=body_of(request), headers=dict(request["headers"]))
        response = connection.getresponse()
        body = response.read()
        connection.close()
        answer: dict[str, Any] = {"status": response.status}
        for name in ("x-clickhouse-exception-code", "x-clickhouse-format", "content-encoding"):
            if value := response.headers.get(name):
                answer[name] = value
        with contextlib.suppress(UnicodeDecodeError):
            if len(body) < 300 and b"elapsed" not in body:
                answer["text"] = body.decode()
        yield answer


def body_of(request: Mapping[str, Any]) -> bytes:
    """The body of a recorded request."""
    body = request["body"]
    return base64.b64decode(body["base64"]) if "base64" in body else body["text"].encode()


def set_up(url: str) -> None:
    """The table that the requests are about, empty."""
    for statement in SETUP:
        subprocess.run(["curl", "-sSf", url, "--data-binary", statement], check=True, stdout=subprocess.DEVNULL)


async def record(engine: EngineProcess) -> list[dict[str, Any]]:
    """What each client sends, in order."""
    clients: dict[str, Callable[[str], Awaitable[None]]] = {
        "async": _async_client,
        "sync": lambda url: asyncio.to_thread(_sync_client, url),
        "curl": lambda url: asyncio.to_thread(_curl, url),
    }
    recorded: list[dict[str, Any]] = []
    await asyncio.to_thread(set_up, engine.url)
    for name, client in clients.items():
        relay = Relay(int(engine.url.rpartition(":")[2]))
        server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        try:
            await client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            server.close()
            await relay.close()
        recorded += [{"client": name, **request} for request in relay.requests]
    return recorded


def load() -> list[dict[str, Any]]:
    """The committed recordings."""
    requests = [json.loads(line) for line in FILE.read_text().splitlines()]
    return [{**r, "query": [tuple(pair) for pair in r["query"]]} for r in requests]


SETUP = (
    "CREATE DATABASE IF NOT EXISTS recorded",
    f"CREATE OR REPLACE TABLE {TABLE} (a UInt64, b String) ENGINE = MergeTree ORDER BY a",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = EngineProcess(Path(folder) / "data")
        engine.start()
        try:
            requests = asyncio.run(record(engine))
            set_up(engine.url)
            answers = list(replay(engine.url, requests))
        finally:
            engine.close()
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w") as file:
        for request, answer in zip(requests, answers, strict=True):
            file.write(json.dumps({**request, "answer": answer}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
