"""HTTP requests into statements: hand-written ones, and the recorded ones of real clients."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import recorder

from logstream.standalone.engine import coding, form
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.request import MAX_QUERY_BYTES, Kind, Statement, parse

RECORDED = [r for r in recorder.load() if r["path"] == "/"]


def _parse(query: Mapping[str, str] | None = None, *body: bytes, method: str = "POST", **headers: str) -> Statement:
    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return parse(method, urlencode(query or {}).encode(), names, list(body), {})


def _recorded(request: Mapping[str, Any]) -> Statement:
    headers = {name.encode(): value.encode() for name, value in request["headers"]}
    pieces = coding.decode(headers.get(b"content-encoding", b""), [recorder.body_of(request)], limit=2**20)
    fields: dict[str, str] = {}
    if form.is_form(headers.get(b"content-type", b"")):
        fields, pieces = form.fields(headers[b"content-type"], pieces), []
    return parse(request["method"], urlencode(request["query"]).encode(), headers, pieces, fields)


def test_query_and_body_are_one_text() -> None:
    assert _parse({"query": "SELECT"}, b"1").sql == "SELECT\n1"
    assert _parse({}, b"SELECT", b" 1").sql == "SELECT 1"
    assert _parse({"query": "SELECT 1"}).sql.strip() == "SELECT 1"


def test_insert_data_come_from_the_url_or_the_body() -> None:
    in_body = _parse({}, b"INSERT INTO t FORMAT Native\n\x01", b"\x02")
    in_url = _parse({"query": "INSERT INTO t FORMAT Native"}, b"\x01", b"\x02")
    for statement in (in_body, in_url):
        assert statement.kind is Kind.INSERT
        assert (statement.sql.strip(), statement.format) == ("INSERT INTO t", "Native")
        assert b"".join(statement.data) == b"\x01\x02"


@given(st.integers(1, 40))
def test_the_cut_between_pieces_does_not_matter(at: int) -> None:
    body = b"INSERT INTO t (a) FORMAT Native\n\n\x01\x02\x03FORMAT x"
    statement = _parse({}, body[:at], body[at:])
    assert (statement.sql, statement.format) == ("INSERT INTO t (a) ", "Native")
    assert b"".join(statement.data) == b"\n\x01\x02\x03FORMAT x"


def test_parameters_settings_and_the_rest_are_told_apart() -> None:
    statement = _parse(
        {
            "param_a": "1", "max_threads": "2", "query_id": "q", "database": "d", "wait_end_of_query": "1",
            "session_id": "s", "enable_http_compression": "0",
        },
        b"SELECT 1",
    )  # fmt: skip
    assert statement.parameters == {"a": "1"}
    assert statement.settings == {"max_threads": "2"}
    assert (statement.query_id, statement.database, statement.wait_end, statement.compress) == ("q", "d", True, False)


def test_database_and_format_may_be_headers() -> None:
    statement = _parse({}, b"SELECT 1", x_clickhouse_database="d", x_clickhouse_format="CSV")
    assert (statement.database, statement.format) == ("d", "CSV")
    assert _parse({}, b"SELECT 1").format == "TabSeparated"
    assert _parse({"default_format": "JSON"}, b"SELECT 1 FORMAT CSV", x_clickhouse_format="XML").format == "CSV"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"SELECT 1 FORMAT Native", Kind.STREAM),
        (b"(SELECT 1) FORMAT JSONEachRow", Kind.STREAM),
        (b"SELECT 1 FORMAT JSON", Kind.WHOLE),
        (b"SHOW TABLES", Kind.WHOLE),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", Kind.WHOLE),
        (b"INSERT INTO t SELECT 1", Kind.WHOLE),
    ],
)
def test_only_formats_whose_pieces_concatenate_are_streamed(text: bytes, kind: Kind) -> None:
    assert _parse({}, text).kind is kind


def test_get_may_only_read() -> None:
    assert _parse({"query": "SELECT 1"}, method="GET").read_only
    assert not _parse({"query": "SELECT 1"}).read_only


@pytest.mark.parametrize(
    ("query", "body", "code", "status"),
    [
        ({"compress": "1"}, b"SELECT 1", 48, 501),
        ({}, b"SELECT '\xff'", 62, 400),
        ({}, b"SELECT " + b" " * MAX_QUERY_BYTES, 229, 413),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(query: dict[str, str], body: bytes, code: int, status: int) -> None:
    with pytest.raises(EngineError) as caught:
        _parse(query, body)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert caught.value.text.startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize("request_", RECORDED, ids=lambda r: f"{r['client']}-{str(r['body'])[:40]}")
def test_every_recorded_request_is_understood(request_: dict[str, Any]) -> None:
    statement = _recorded(request_)
    names = {name for name, _ in request_["query"]}
    assert set(statement.settings) <= {n for n in names if not n.startswith(("param_", "query", "send_progress"))}
    assert "session_id" not in statement.settings
    assert (statement.kind is Kind.INSERT) == bool(statement.data)
    assert "FORMAT" not in statement.sql if statement.kind is Kind.INSERT else True


def test_recorded_parameters_arrive_escaped_in_the_url_and_in_a_form() -> None:
    url = next(r for r in RECORDED if "{s:String} AS s" in str(r["body"]))
    assert _recorded(url).parameters["s"] == "it\\'s \\\\ \\\t é\\\n"
    long = next(r for r in RECORDED if r["client"] == "async" and "length({long:String})" in str(r["body"]))
    assert _recorded(long).parameters == {"long": "x" * 6000}


def test_recorded_inserts_carry_their_token_and_data() -> None:
    inserts = [s for s in map(_recorded, RECORDED) if s.kind is Kind.INSERT]
    tokens = [token for s in inserts if (token := s.settings.get("insert_deduplication_token"))]
    assert tokens == ["i", "r"] * 4
    native = {b"".join(s.data) for s in inserts if s.format == "Native"}
    rows = (
        b"\x02\x02\x01a\x06UInt64"
        + (1).to_bytes(8, "little")
        + (2).to_bytes(8, "little")
        + b"\x01b\x06String\x01a\x01b"
    )
    assert rows in native
