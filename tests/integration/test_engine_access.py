"""What requests may do to the engine and to the machine it runs on."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from clickhouse_connect import get_client
from tests.support.engine import EngineProcess

pytestmark = pytest.mark.engine


def _ask(engine: EngineProcess, sql: str, *, headers: dict[str, str] | None = None, **query: object) -> tuple[int, str]:
    request = urllib.request.Request(f"{engine.url}/?{urlencode(query)}", data=sql.encode(), headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _code(answer: tuple[int, str]) -> str:
    return answer[1].partition(".")[0]


@pytest.fixture
def database(engine: EngineProcess) -> Iterator[str]:
    _ask(engine, "DROP DATABASE IF EXISTS engine_access")
    _ask(engine, "CREATE DATABASE engine_access")
    yield "engine_access"
    _ask(engine, "DROP DATABASE engine_access")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM `/etc/passwd`",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/x', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT * FROM executable('id', 'LineAsString', 'x String')",
        "SELECT * FROM sqlite('/tmp/x', 't')",
        "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
        "INSERT INTO FUNCTION file('/tmp/logstream-x', 'TSV', 'a String') SELECT 'x'",
        "INSERT INTO FUNCTION file('/tmp/logstream-x', 'TSV', 'a String') FORMAT TSV x",
        "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'TSV', 'a String') FORMAT TSV x",
        "SELECT 1 INTO OUTFILE '/tmp/logstream-x'",
        "INSERT INTO engine_access.t FROM INFILE '/etc/passwd' FORMAT LineAsString",
        "CREATE TABLE engine_access.f (a String) ENGINE = File('LineAsString', '/etc/passwd')",
        "CREATE TABLE engine_access.f (a String) ENGINE = URL('http://127.0.0.1:1/', 'LineAsString')",
        "CREATE TABLE engine_access.f (a String) ENGINE = FileLog('/var/log', 'LineAsString')",
        "CREATE DATABASE engine_access_2 ENGINE = Filesystem('/etc')",
        "CREATE DATABASE engine_access_2 ENGINE = SQLite('/tmp/logstream-x')",
        "CREATE DICTIONARY engine_access.d (a UInt8) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id')) LAYOUT(FLAT())",
        "BACKUP DATABASE engine_access TO File('/tmp/logstream-x')",
        "CREATE USER u",
        "GRANT ALL ON *.* TO default",
        "SYSTEM SHUTDOWN",
    ],
)
def test_files_programs_and_other_machines_are_out_of_reach(engine: EngineProcess, database: str, sql: str) -> None:
    _ask(engine, "CREATE TABLE engine_access.t (a String) ENGINE = MergeTree ORDER BY a")
    status, text = _ask(engine, sql)
    assert status >= 400, text
    assert "root:" not in text
    assert text.startswith(("Code: 497.", "Code: 60.")), text
    assert _ask(engine, "SELECT count() FROM engine_access.t") == (200, "0\n")
    assert not Path("/tmp/logstream-x").exists()


@pytest.mark.parametrize(
    "name",
    [
        "MergeTree ORDER BY a", "ReplacingMergeTree ORDER BY a", "SummingMergeTree ORDER BY a", "Memory", "Null",
        "Log", "TinyLog", "StripeLog", "Set", "Join(ANY, LEFT, a)", "Merge('engine_access', '^t')",
        "Buffer('engine_access', 't', 1, 1, 1, 1, 1, 1, 1)",
    ],
)  # fmt: skip
def test_tables_of_its_own_may_be_made(engine: EngineProcess, database: str, name: str) -> None:
    assert _ask(engine, f"CREATE TABLE engine_access.x (a String) ENGINE = {name}") == (200, "")


def test_the_default_database_is_one_like_any_other(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    try:
        engine.kill()  # before anything was stored in it
        engine.start()
        assert _ask(engine, "CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a") == (200, "")
        for expected in ("1\n", "2\n"):
            assert _ask(engine, "INSERT INTO kept VALUES (1)") == (200, "")
            engine.kill()
            engine.start()
            assert _ask(engine, "SELECT sum(a) FROM default.kept") == (200, expected)
            assert _ask(engine, "SELECT engine FROM system.databases WHERE name = 'default'") == (200, "Atomic\n")
        _ask(engine, "DROP TABLE kept SYNC")
        engine.restart()
        assert _ask(engine, "CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a") == (200, "")
    finally:
        engine.close()


def test_requests_of_web_pages_elsewhere_do_nothing(engine: EngineProcess, database: str) -> None:
    for headers in (
        {"Origin": "https://example.com", "Content-Type": "text/plain"},
        {"Host": "example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        status, text = _ask(engine, "DROP DATABASE engine_access", headers=headers)
        assert (status, _code((status, text))) == (403, "Code: 497")
    assert _ask(engine, "EXISTS DATABASE engine_access", headers={"Origin": "http://localhost:3000"}) == (200, "1\n")


def test_a_password_is_asked_for_where_one_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_ENGINE_PASSWORD", "s3cret")
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    try:
        assert _ask(engine, "SELECT 1")[0] == 401
        answer = _ask(engine, "SELECT 1", headers={"X-ClickHouse-Key": "wrong"})
        assert (answer[0], _code(answer)) == (403, "Code: 516")
        assert _ask(engine, "SELECT 1", password="s3cret") == (200, "1\n")
        client = get_client(dsn=engine.url, username="default", password="s3cret")
        assert client.query("SELECT 1").result_rows == [(1,)]
        client.close()
        assert "s3cret" not in engine.log()
    finally:
        engine.close()


@pytest.mark.parametrize("settings", [{"readonly": 1}, {"readonly": 2}, {"allow_ddl": 0}])
def test_no_setting_outlives_its_request(engine: EngineProcess, database: str, settings: dict[str, int]) -> None:
    _ask(engine, "CREATE TABLE engine_access.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    refused = 0
    for number in range(12):  # more than there are connections
        refused += _ask(engine, f"CREATE TABLE engine_access.s{number} (a UInt8) ENGINE = Memory", **settings)[0] >= 400
        refused += _ask(engine, "INSERT INTO engine_access.t FORMAT CSV\n1\n", **settings)[0] >= 400
    assert refused >= 12
    for number in range(12):
        sql = f"CREATE TABLE engine_access.n{number} (a UInt8) ENGINE = Memory"
        assert _ask(engine, sql, max_threads=1 + number % 2) == (200, "")
        assert _ask(engine, "INSERT INTO engine_access.t FORMAT CSV\n1\n", max_threads=1 + number % 2) == (200, "")
    assert json.loads(_ask(engine, "SELECT getSetting('readonly') AS r FORMAT JSONEachRow")[1]) == {"r": 0}
