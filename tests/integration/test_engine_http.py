"""The embedded engine's HTTP interface: recorded requests, streams, errors, limits."""

import asyncio
import gzip
import http.client
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.support import recorder
from tests.support.engine import EngineProcess

pytestmark = pytest.mark.engine


class Http:
    """Plain requests, as curl would send them."""

    def __init__(self, engine: EngineProcess) -> None:
        self.port = int(engine.url.rpartition(":")[2])

    def __call__(
        self, body: bytes | str = b"", *, method: str = "POST", headers: dict[str, str] | None = None, **query: object
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body.encode() if isinstance(body, str) else body
        connection.request(method, "/?" + urlencode(query), body=data, headers=headers or {})
        response = connection.getresponse()
        try:
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def text(self, sql: str, **query: object) -> str:
        status, body, _ = self(sql, **query)
        assert status == 200, body
        return body.decode().rstrip("\n")

    def open(self, body: bytes, *, length: int | None = None, query: str = "") -> socket.socket:
        """A request on a socket of its own; `length` may promise more than is sent."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        size = len(body) if length is None else length
        sock.sendall(f"POST /?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode() + body)
        return sock


@pytest.fixture
def http_(engine: EngineProcess) -> Iterator[Http]:
    client = Http(engine)
    client.text("DROP DATABASE IF EXISTS engine_http")
    client.text("CREATE DATABASE engine_http")
    client.text("CREATE TABLE engine_http.t (a UInt32) ENGINE = MergeTree ORDER BY tuple()")
    yield client
    client.text("DROP DATABASE engine_http")


def _native(rows: int, value: int) -> bytes:
    assert 128 <= rows < 16_384
    return bytes((1, rows & 0x7F | 0x80, rows >> 7)) + b"\x01a\x06UInt32" + struct.pack("<I", value) * rows


def _until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_recorded_requests_are_answered_as_recorded(engine: EngineProcess) -> None:
    requests = recorder.load()
    recorder.set_up(engine.url)
    for request, answer in zip(requests, recorder.replay(engine.url, requests), strict=True):
        expected = dict(request["answer"])
        if "x-clickhouse-exception-code" in expected or "version()" in str(request["body"]):
            expected.pop("text", None)  # the engine's own words, which change with its version
            answer.pop("text", None)
        assert answer == expected, request["body"]


async def test_the_recordings_are_what_the_installed_clients_send(engine: EngineProcess) -> None:
    def essence(request: dict[str, Any]) -> tuple[object, ...]:
        headers = tuple((n, v.partition(";")[0]) for n, v in request["headers"])
        return (request["client"], request["method"], request["path"], sorted(n for n, _ in request["query"]), headers)

    now = await recorder.record(engine)
    assert [essence(r) for r in now] == [essence({**r, "answer": None}) for r in recorder.load()]


def test_the_exception_is_the_answer_until_the_first_piece(http_: Http) -> None:
    for sql, status, code in (
        ("SELECT * FROM engine_http.nothing", 404, "60"),
        ("SELECT 1 +", 400, "62"),
        ("SELECT throwIf(1)", 500, "395"),
        ("SELECT 1; SELECT 2", 400, "62"),
    ):
        got, body, headers = http_(sql)
        assert (got, headers["X-ClickHouse-Exception-Code"]) == (status, code)
        assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert http_("SELECT 1", nonsense="1")[0] == 404
    assert http_("SELECT 1", database="nothing")[0] == 404


def test_an_exception_behind_the_first_piece_ends_a_broken_answer(http_: Http) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", http_.port, timeout=60)
    connection.request("POST", "/", "SELECT throwIf(number = 900000) FROM numbers(1000000) FORMAT RowBinary")
    response = connection.getresponse()
    tag = response.headers["X-ClickHouse-Exception-Tag"]
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    connection.close()
    assert response.status == 200
    tail = caught.value.partial[-600:].decode("latin-1")
    block = tail[tail.index("__exception__") :]
    head, _, rest = block.partition("\r\n" + tag + "\r\n")
    message, _, end = rest.rpartition(f" {tag}\r\n__exception__\r\n")
    text, _, size = message.rpartition("\n")
    assert (head, end, int(size)) == ("__exception__", "", len(text) + 1)
    assert text.startswith("Code: 395. DB::Exception: ")


def test_wait_end_of_query_keeps_the_status_open(http_: Http) -> None:
    sql = "SELECT throwIf(number = 150000) FROM numbers(200000) FORMAT RowBinary"
    assert http_(sql, wait_end_of_query=1)[0] == 500


def test_settings_and_databases_end_with_their_request(http_: Http) -> None:
    default = http_.text("SELECT getSetting('max_threads')")
    for _ in range(12):  # more than there are connections
        assert http_.text(
            "SELECT getSetting('max_threads'), currentDatabase()", max_threads=7, database="engine_http"
        ) == ("7\tengine_http")
    http_.text("SET max_threads = 9")
    http_.text("USE engine_http")
    for _ in range(12):
        assert http_.text("SELECT getSetting('max_threads'), currentDatabase()") == f"{default}\tdefault"
    assert http_.text("SELECT getSetting('async_insert')", async_insert=1) == "false"


def test_get_only_reads(http_: Http) -> None:
    assert http_(method="GET", query="SELECT 1")[:2] == (200, b"1\n")
    for sql in (
        "DROP TABLE engine_http.t",
        "INSERT INTO engine_http.t VALUES (1)",
        "INSERT INTO engine_http.t FORMAT CSV 1",
    ):
        status, _, headers = http_(method="GET", query=sql)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert http_.text("SELECT count() FROM engine_http.t") == "0"


def test_many_blocks_of_one_insert_become_one_part(http_: Http) -> None:
    body = b"".join(_native(10_000, value) for value in range(150))
    status, _, headers = http_(body, query="INSERT INTO engine_http.t FORMAT Native")
    assert status == 200
    assert '"written_rows":"1500000"' in headers["X-ClickHouse-Summary"]
    assert http_.text("SELECT rows FROM system.parts WHERE database = 'engine_http' AND active") == "1500000"


def test_a_bad_block_stores_nothing_of_its_insert(http_: Http) -> None:
    body = b"".join(_native(10_000, value) for value in range(150)) + b"\x01\x01garbage"
    assert http_(body, query="INSERT INTO engine_http.t FORMAT Native")[0] >= 400
    assert http_.text("SELECT count() FROM engine_http.t") == "0"
    assert http_(b"1\n2\nx\n", query="INSERT INTO engine_http.t FORMAT TSV")[0] == 400
    assert http_.text("SELECT count() FROM engine_http.t") == "0"


def test_a_body_cut_off_stores_nothing(http_: Http) -> None:
    body = b"INSERT INTO engine_http.t FORMAT Native\n" + _native(200, 1)
    http_.open(body, length=len(body) + 10).close()
    chunked = socket.create_connection(("127.0.0.1", http_.port))
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked.sendall(head + b"%x\r\n%s\r\n" % (len(body), body))
    chunked.close()
    before = int(http_.text("SELECT 1"))
    compressed = gzip.compress(body)
    status, _, _ = http_(compressed[:-4], headers={"Content-Encoding": "gzip"})
    assert (before, status) == (1, 400)
    assert http_.text("SELECT count() FROM engine_http.t") == "0"
    assert http_(compressed, headers={"Content-Encoding": "gzip"})[0] == 200
    assert http_.text("SELECT count() FROM engine_http.t") == "200"


def test_an_insert_repeated_under_its_token_is_stored_once(http_: Http) -> None:
    http_.text("ALTER TABLE engine_http.t MODIFY SETTING non_replicated_deduplication_window = 100")
    for token in ("x", "x", "y"):
        http_(_native(200, 1), query="INSERT INTO engine_http.t FORMAT Native", insert_deduplication_token=token)
    assert http_.text("SELECT count() FROM engine_http.t") == "400"


def test_a_query_whose_client_is_gone_is_cancelled(http_: Http) -> None:
    for marker, sql in (
        ("whole", "SELECT /* whole */ count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT JSON"),
        ("piece", "SELECT /* piece */ count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT TSV"),
        ("unread", "SELECT /* unread */ number FROM numbers(1000000000000) FORMAT TSV"),
    ):
        running = (
            f"SELECT count() FROM system.processes WHERE query LIKE '%/* {marker} */%' AND query NOT LIKE '%processes%'"
        )
        sock = http_.open(sql.encode())
        _until(lambda running=running: http_.text(running) == "1", f"{marker} runs")
        sock.close()
        _until(lambda running=running: http_.text(running) == "0", f"{marker} is cancelled")


def test_long_queries_hold_up_neither_inserts_nor_the_end_of_waiting(http_: Http) -> None:
    sql = b"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 2 SETTINGS max_threads = 1 FORMAT TSV"
    long = [http_.open(sql) for _ in range(30)]  # far more than there are connections for reads
    try:
        assert http_(_native(200, 1), query="INSERT INTO engine_http.t FORMAT Native")[0] == 200
    finally:
        for sock in long:
            sock.close()
    _until(lambda: http_.text("SELECT count() FROM engine_http.t") == "200", "reads are served again")


async def test_a_result_is_not_held_in_memory(engine: EngineProcess, http_: Http) -> None:
    def hwm() -> int:
        with open(f"/proc/{engine.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024

    before = hwm()
    sql = b"SELECT number, toString(number) FROM numbers(20000000) FORMAT RowBinary"
    reader, writer = await asyncio.open_connection("127.0.0.1", http_.port)
    writer.write(
        b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(sql) + sql
    )
    size = 0
    while data := await reader.read(1 << 20):
        size += len(data)
    writer.close()
    assert size > 300_000_000
    assert hwm() - before < 100_000_000


def test_compressed_answers(http_: Http) -> None:
    status, body, headers = http_("SELECT number FROM numbers(100000)", headers={"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(body).splitlines()[-1] == b"99999"
    _, body, headers = http_("SELECT 1", headers={"Accept-Encoding": "gzip"}, enable_http_compression=0)
    assert (body, headers["Content-Encoding"]) == (b"1\n", None)
    _, body, headers = http_("SELECT nonsense", headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] is None


def test_headers_that_clients_read(http_: Http) -> None:
    _, _, headers = http_("SELECT 1 FORMAT CSV", query_id="my\r\nid")
    assert headers["X-ClickHouse-Query-Id"] == "myid"
    assert headers["X-ClickHouse-Format"] == "CSV"
    assert headers["X-ClickHouse-Timezone"] == http_.text("SELECT timezone()") == "UTC"


def test_paths(http_: Http) -> None:
    for path, status in (("/ping", 200), ("/", 200), ("/metrics", 200), ("/nothing", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", http_.port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == status
        if path in ("/", "/ping"):
            assert body == b"Ok.\n"


@pytest.mark.parametrize(
    ("name", "begin", "end"), [("Parquet", b"PAR1", b"PAR1"), ("CSVWithNames", b'"n","s"\n0,', b'"\n')]
)
def test_a_file_comes_whole_with_its_parameters_and_limits(http_: Http, name: str, begin: bytes, end: bytes) -> None:
    sql = f"SELECT number AS n, {{p:String}} AS s FROM numbers(300000) /* FORMAT TSV */ FORMAT {name} /* tag */"
    status, body, headers = http_(sql, param_p="a FORMAT b")
    assert status == 200
    assert body.startswith(begin)
    assert body.endswith(end)
    assert headers["X-ClickHouse-Format"] == name
    if name == "CSVWithNames":
        assert body.count(b'"a FORMAT b"\n') == 300_000
    assert http_(f"SELECT nonsense FORMAT {name}")[0] in {400, 404}
    assert (
        http_(f"SELECT number FROM numbers(5) SETTINGS max_result_rows = 1, max_block_size = 1 FORMAT {name}")[0] != 200
    )


def test_a_file_that_fails_half_way_is_broken_off(http_: Http) -> None:
    sql = "SELECT number, throwIf(number = 3000000) FROM numbers(10000000) FORMAT CSVWithNames"
    with pytest.raises(http.client.IncompleteRead) as broken:
        http_(sql, max_threads=1)
    assert b"__exception__" in broken.value.partial[-2000:]
    assert http_.text("SELECT count() FROM numbers(3)") == "3"


@pytest.mark.parametrize("name", ["Parquet", "CSVWithNames"])
async def test_a_file_is_not_held_in_memory_and_ends_with_its_client(
    engine: EngineProcess, http_: Http, name: str
) -> None:
    marker = f"file-{name}"
    running = (
        f"SELECT count() FROM system.processes WHERE query LIKE '%/* {marker} */%' AND query NOT LIKE '%processes%'"
    )
    for sql in (
        f"SELECT number, toString(number) FROM numbers(100000000000) /* {marker} */ FORMAT {name}",
        # Nothing to write for a long time after the first piece.
        (
            f"SELECT number FROM numbers(1000000000000) WHERE number < 3000000 OR sipHash64(number) = 2 /* {marker} */ "
            f"SETTINGS max_threads = 1 FORMAT {name}"
        ),
    ):
        sock = http_.open(sql.encode(), query="output_format_parquet_row_group_size=100000")
        size = 0
        while size < 3_000_000:
            size += len(sock.recv(1 << 20))
        assert http_.text(running) == "1"
        sock.close()
        _until(lambda: http_.text(running) == "0", f"{marker} is cancelled")
