"""Who may speak to the engine."""

import base64

import pytest

from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.guard import Guard


def _status(guard: Guard, query: bytes = b"", **headers: str) -> int:
    """The status a request is refused with; 200 when it is not."""
    try:
        guard.check({name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}, query)
    except EngineError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:5173", 200),
        ("http://127.0.0.1:8123", 200),
        ("http://[::1]:8123", 200),
        ("https://example.com", 403),
        ("http://localhost.example.com", 403),
        ("http://127.0.0.1.example.com", 403),
        ("http://10.0.0.7", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_only_pages_of_this_machine_may_ask(origin: str, status: int) -> None:
    assert _status(Guard(listen="127.0.0.1"), origin=origin, host="127.0.0.1:8123") == status


def test_a_get_from_a_page_elsewhere_has_no_origin_but_is_refused() -> None:
    guard = Guard(listen="127.0.0.1")
    assert _status(guard, sec_fetch_site="cross-site") == 403
    assert _status(guard, sec_fetch_site="none") == 200
    assert _status(guard, sec_fetch_site="cross-site", origin="http://localhost:3000") == 200


@pytest.mark.parametrize(
    ("listen", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8123", 200),
        ("127.0.0.1", "LOCALHOST:8123", 200),
        ("::1", "[::1]:8123", 200),
        ("127.0.0.1", "rebound.example.com:8123", 403),
        ("127.0.0.1", "10.0.0.7:8123", 403),
        ("127.0.0.1", "[", 403),
        ("0.0.0.0", "10.0.0.7:8123", 200),
        ("0.0.0.0", "rebound.example.com", 403),
        ("0.0.0.0", "clickhouse", 200),
        ("db.internal", "db.internal:8123", 200),
    ],
)
def test_the_host_must_be_this_one(listen: str, host: str, status: int) -> None:
    assert _status(Guard(listen=listen, hosts=["clickhouse"]), host=host) == status


def test_without_a_password_any_is_accepted() -> None:
    assert _status(Guard(listen="127.0.0.1"), x_clickhouse_key="x") == 200


@pytest.mark.parametrize(("given", "status"), [("s3cret é", 200), ("s3cret", 403), ("", 403)])
def test_the_password_comes_in_three_ways(given: str, status: int) -> None:
    guard = Guard(listen="127.0.0.1", password="s3cret é")
    basic = base64.b64encode(f"default:{given}".encode()).decode()
    assert _status(guard) == 401
    assert _status(guard, x_clickhouse_key=given) == status
    assert _status(guard, authorization=f"Basic {basic}") == status
    query = b"query=SELECT+1&password=" + given.replace(" ", "+").replace("é", "%C3%A9").encode()
    assert _status(guard, query) == status
    assert _status(guard, authorization="Basic !") == 403
