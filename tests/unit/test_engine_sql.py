"""What the engine reads from a statement's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.standalone.engine.sql import forbidden, shape


@pytest.mark.parametrize(
    ("text", "verb", "name"),
    [
        (b"SELECT 1", "SELECT", None),
        (b"  -- note\n/* c */ select 1 format Native", "SELECT", "Native"),
        (b"WITH 1 AS x SELECT x\n FORMAT JSONEachRow SETTINGS a = 1", "WITH", "JSONEachRow"),
        (b"(SELECT 1 FORMAT Inner) FORMAT CSV", "", "CSV"),
        (b"SELECT 'FORMAT Native', `FORMAT`, formatRow('CSV', 1)", "SELECT", None),
        (b"SELECT 'it''s \\' FORMAT x' FORMAT TSV;", "SELECT", "TSV"),
        (b"SELECT 1 -- FORMAT CSV", "SELECT", None),
        (b"INSERT INTO t SELECT 1", "INSERT", None),
        (b"INSERT INTO t VALUES (1, 'FORMAT CSV')", "INSERT", None),
        (b"", "", None),
    ],
)
def test_verb_and_format(text: bytes, verb: str, name: str | None) -> None:
    found = shape(text)
    assert (found.verb, found.format, found.takes_data) == (verb, name, False)


@pytest.mark.parametrize(
    ("text", "statement", "name", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x01\x02", b"INSERT INTO t ", "Native", b"\x01\x02"),
        (b"INSERT INTO t FORMAT Native\n\nx", b"INSERT INTO t ", "Native", b"\nx"),
        (b"INSERT INTO t FORMAT CSV \r\n1\n", b"INSERT INTO t ", "CSV", b"1\n"),
        (b"insert into d.t (a, `format`) format TSV 1", b"insert into d.t (a, `format`) ", "TSV", b"1"),
        (b"INSERT INTO format FORMAT CSV\n1", b"INSERT INTO format ", "CSV", b"1"),
        (b"INSERT INTO d.values (a) SETTINGS x = 'FORMAT a' FORMAT CSV\n1",
         b"INSERT INTO d.values (a) ", "CSV", b"1"),
        (b"INSERT INTO FUNCTION null('x Int8') FORMAT CSV\n", b"INSERT INTO FUNCTION null('x Int8') ", "CSV", b""),
        (b"INSERT INTO t FORMAT CSV", b"INSERT INTO t ", "CSV", b""),
    ],
)  # fmt: skip
def test_an_insert_ends_where_its_data_begin(text: bytes, statement: bytes, name: str, data: bytes) -> None:
    found = shape(text)
    assert found.takes_data
    assert (text[: found.insert_end], found.format, text[found.data_start :]) == (statement, name, data)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_shape(text: bytes) -> None:
    shape(text)


@given(st.binary(max_size=100))
def test_data_never_change_how_their_insert_is_read(data: bytes) -> None:
    text = b"INSERT INTO t (a) FORMAT Native\n"
    found = shape(text + data)
    assert (text + data)[found.data_start :] == data
    assert found.format == "Native"


@pytest.mark.parametrize(
    ("text", "settings", "data"),
    [
        (b"INSERT INTO t SETTINGS a = 1, b = 'x' FORMAT CSV\n1", b"SETTINGS a = 1, b = 'x'", b"1"),
        (b"INSERT INTO t FORMAT CSV SETTINGS a = 1, b='x y'\n1", b"SETTINGS a = 1, b='x y'", b"1"),
        (b"INSERT INTO t FORMAT CSV\nSETTINGS a=-1.5\n1", b"SETTINGS a=-1.5", b"1"),
        (b"INSERT INTO t FORMAT CSV\nSETTINGS,1", b"", b"SETTINGS,1"),
        (b"INSERT INTO t (settings) FORMAT CSV\n1", b"", b"1"),
    ],
)
def test_settings_of_an_insert_stand_on_either_side_of_the_format(text: bytes, settings: bytes, data: bytes) -> None:
    found = shape(text)
    assert (found.settings, text[found.data_start :]) == (settings, data)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1 INTO OUTFILE '/x'",
        b"SELECT 1 into/**/outfile '/x' FORMAT CSV",
        b"INSERT INTO t FROM INFILE '/x' FORMAT CSV",
        b"SELECT file('/etc/passwd')",
        b"SELECT `file` /* */ ('/etc/passwd')",
        b"SELECT file\xc2\xa0('/etc/passwd')",
        b"SELECT `f\\x69le`('/etc/passwd')",
        b"SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
        b"SELECT arrayMap(file, ['/etc/passwd'])",
        b"SELECT arrayMap(((file)), ['/etc/passwd'])",
        b"SELECT * APPLY file FROM (SELECT '/etc/passwd')",
        b"SELECT (SELECT (file('/etc/passwd')))",
        b"CREATE FUNCTION f AS x -> file(x)",
        b"INSERT INTO t VALUES (file('/etc/passwd'))",
        b"SELECT * FROM eval('SELECT 1')",
        b"CREATE TABLE t (a String) ENGINE = FileLog('/var/log', 'LineAsString')",
        b"CREATE TABLE t (a String) ENGINE EmbeddedRocksDB(0, '/x') PRIMARY KEY a",
        b"ATTACH TABLE t FROM '/x' (a String) ENGINE = MergeTree ORDER BY a",
    ],
)
def test_files_and_programs_of_the_machine_are_out_of_reach(text: bytes) -> None:
    assert forbidden(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 'file(', file, profile(x) FROM logs WHERE message LIKE '%INTO OUTFILE%' AND file IN (1)",
        b"CREATE TABLE file (a String) ENGINE = MergeTree ORDER BY a -- file(",
        b"INSERT INTO d.file (file) VALUES ('file(1)')",
        b"SELECT outfile, infile FROM t",
        b"SELECT match(message, '\\\\d+ file') FROM t",
        b"ATTACH TABLE t",
        b"ALTER TABLE a ATTACH PARTITION 1 FROM b",
    ],
)
def test_everything_else_may_be_asked(text: bytes) -> None:
    assert forbidden(text) is None
