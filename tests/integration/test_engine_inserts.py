"""What an INSERT with data answers: stored whole, or why not, with the engine's own code."""

import http.client
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.support.disk import small_disk
from tests.support.engine import EngineProcess

pytestmark = pytest.mark.engine


def _post(engine: EngineProcess, sql: str, body: bytes = b"", **settings: object) -> tuple[int, str]:
    """Status, and exception code, or the answer where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", int(engine.url.rpartition(":")[2]), timeout=60)
    try:
        connection.request("POST", "/?" + urlencode({"query": sql, **settings}), body=body)
        response = connection.getresponse()
        text = response.read().decode()
        code = response.headers["X-ClickHouse-Exception-Code"]
        assert code is None or text.startswith(f"Code: {code}. DB::"), text
        return response.status, code or text.strip()
    finally:
        connection.close()


def _numbers(rows: int) -> bytes:
    """A Native block of one column n UInt32."""
    assert 128 <= rows < 16_384
    return bytes((1, rows & 0x7F | 0x80, rows >> 7)) + b"\x01n\x06UInt32" + struct.pack(f"<{rows}I", *range(rows))


@pytest.fixture
def table(engine: EngineProcess) -> Iterator[str]:
    _post(engine, "DROP DATABASE IF EXISTS engine_inserts")
    _post(engine, "CREATE DATABASE engine_inserts")
    _post(
        engine,
        "CREATE TABLE engine_inserts.t (n UInt32, s String DEFAULT 'd', CONSTRAINT small CHECK n < 100000)"
        " ENGINE = MergeTree PARTITION BY intDiv(n, 1000) ORDER BY n",
    )
    yield "engine_inserts.t"
    _post(engine, "DROP DATABASE engine_inserts")


@pytest.mark.parametrize(
    ("clauses", "body"),
    [
        ("FORMAT CSV", b"1,a\n2,b\n"),
        ("(n, s) FORMAT CSV", b"1,a\n2,b\n"),
        ("(s, n) FORMAT CSV", b"a,1\nb,2\n"),
        ("SETTINGS max_threads = 1, log_comment = 'it''s' FORMAT CSV", b"1,a\n2,b\n"),
        ("(s, n) SETTINGS max_threads = 1 FORMAT CSV", b"a,1\nb,2\n"),
        ("FORMAT CSV SETTINGS format_csv_delimiter = ';'", b"1;a\n2;b\n"),
        ("FORMAT JSONEachRow", b'{"n": 1, "s": "a"}\n{"s": "b", "n": 2}'),
        ("FORMAT Values", b"(1, 'a'), (2, 'b')"),
        ("VALUES", b"(1, 'a'), (2, 'b')"),
        ("FORMAT RowBinary", b"\x01\0\0\0\x01a\x02\0\0\0\x01b"),
        ("-- a comment\n FORMAT TSV", b"1\ta\n2\tb\n"),
        ("FORMAT CSVWithNames", b"s,n\na,1\nb,2\n"),
    ],
)
def test_ways_to_write_an_insert(engine: EngineProcess, table: str, clauses: str, body: bytes) -> None:
    assert _post(engine, f"INSERT INTO {table} {clauses}", body) == (200, "")
    assert _post(engine, f"SELECT n, s FROM {table} ORDER BY n FORMAT CSV") == (200, '1,"a"\n2,"b"')


@pytest.mark.parametrize(
    ("name", "body", "settings", "code"),
    [
        ("CSV", b"1,a\n100000,b\n", {}, "469"),  # the constraint: only the last step finds it
        ("CSV", b"".join(b"%d,a\n" % (n * 1000) for n in range(90)), {"max_partitions_per_insert_block": 10}, "252"),
        ("CSV", b"1,a\nx,b\n", {}, "27"),
        ("CSV", b'1,a\n"\xff\xfe,\xff', {}, "27"),
        ("TSV", b"1\ta\n\xff\xfe\tb\n", {}, "27"),
        ("JSONEachRow", b'{"n": 1}\n{"n": "\xff"}', {}, "27"),
        ("JSONEachRow", b'{"\xff\xfe": 1}', {"input_format_skip_unknown_fields": 0}, "117"),
        ("Native", _numbers(200)[:-7], {}, "33"),
        ("Native", _numbers(200) + b"\x01\x01garbage", {}, "33"),
        ("NoSuchFormat", b"1", {}, "73"),
        ("CSV", b"1,a\n", {"no_such_setting": 1}, "115"),
    ],
)
def test_what_cannot_be_stored_is_told_and_leaves_nothing(
    engine: EngineProcess, table: str, name: str, body: bytes, settings: dict[str, object], code: str
) -> None:
    status, got = _post(engine, f"INSERT INTO {table} FORMAT {name}", body, **settings)
    assert (status >= 400, got) == (True, code)
    assert _post(engine, f"SELECT count() FROM {table}") == (200, "0")
    assert _post(engine, f"INSERT INTO {table} FORMAT CSV", b"1,a\n") == (200, "")


def test_too_many_parts_is_told(engine: EngineProcess, table: str) -> None:
    _post(engine, "SYSTEM STOP MERGES engine_inserts.p")
    _post(
        engine,
        "CREATE TABLE engine_inserts.p (n UInt32) ENGINE = MergeTree ORDER BY n"
        " SETTINGS parts_to_throw_insert = 3, parts_to_delay_insert = 0",
    )
    _post(engine, "SYSTEM STOP MERGES engine_inserts.p")
    answers = [_post(engine, "INSERT INTO engine_inserts.p FORMAT CSV", b"%d\n" % n) for n in range(5)]
    assert answers == [(200, "")] * 3 + [(500, "252")] * 2
    assert _post(engine, "SELECT count() FROM engine_inserts.p") == (200, "3")


def test_a_memory_limit_is_told_and_no_request_lifts_the_servers(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "data", "--max-memory-bytes", str(128 * 1024 * 1024))
    engine.start()
    try:
        _post(engine, "CREATE TABLE m (n UInt32) ENGINE = MergeTree ORDER BY sipHash64(n)")
        body = _numbers(16_000) * 800  # 51 MB, and the sort key twice as much
        for settings in ({}, {"max_memory_usage": 0}, {"max_memory_usage": 10**12}):
            assert _post(engine, "INSERT INTO m FORMAT Native", body, **settings) == (500, "241")
            assert _post(engine, "SELECT count() FROM m") == (200, "0")
        assert _post(engine, "SELECT uniqExact(number) FROM numbers(50000000)", max_memory_usage=0) == (500, "241")
        assert _post(engine, "INSERT INTO m FORMAT Native", _numbers(200)) == (200, "")
    finally:
        engine.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 64) as disk:
        engine = EngineProcess(disk.path / "data")
        try:
            engine.start()
            _post(engine, "CREATE TABLE d (s String CODEC(NONE)) ENGINE = MergeTree ORDER BY tuple()")
            answers = [_post(engine, "INSERT INTO d FORMAT LineAsString", b"x" * 999_999 + b"\n") for _ in range(80)]
            stored = answers.count((200, ""))
            assert 10 < stored < 80
            assert {code for status, code in answers if status != 200} <= {"243", "75", "1001"}
            assert _post(engine, "SELECT count() FROM d") == (200, str(stored))
        finally:
            engine.close()
