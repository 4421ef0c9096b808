"""Answers, errors and CORS of the shared HTTP plumbing."""

import json
import socket
from collections.abc import MutableMapping
from typing import Any

import pytest

from logstream.errors import InvalidValue, LogStreamError, NotFound, StartupError, TooMany, Unauthenticated
from logstream.web import Cors, error_headers, listen, respond, respond_error


class Sent:
    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


async def test_an_answer() -> None:
    sent = Sent()
    await respond(sent, 202, b"{}", [(b"x", b"y")])
    assert sent.messages[0]["status"] == 202
    assert sent.headers == {b"content-type": b"application/json", b"content-length": b"2", b"x": b"y"}
    assert sent.messages[1]["body"] == b"{}"


async def test_an_answer_without_content_has_no_type() -> None:
    sent = Sent()
    await respond(sent, 204, b"")
    assert sent.headers == {b"content-length": b"0"}


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (InvalidValue("wrong", field="f", limit=3), 400, None),
        (Unauthenticated("who"), 401, b"www-authenticate"),
        (NotFound("none"), 404, None),
        (TooMany("slow", retry_after=1.2), 429, b"retry-after"),
        (LogStreamError("?"), 500, None),
    ],
)
async def test_errors(error: LogStreamError, status: int, header: bytes | None) -> None:
    sent = Sent()
    await respond_error(sent, error)
    assert sent.messages[0]["status"] == status
    assert json.loads(sent.messages[1]["body"])["error"]["code"] == error.code
    assert [name for name, _ in error_headers(error)] == ([header] if header else [])
    if header == b"retry-after":
        assert sent.headers[header] == b"2"


def test_cors_for_all_and_for_some() -> None:
    everyone = Cors(("*",), methods=("POST",), headers=("Authorization",), exposed=("Retry-After",))
    assert everyone.headers(b"https://a")[0] == (b"access-control-allow-origin", b"*")
    assert (b"access-control-allow-methods", b"POST") in everyone.preflight()
    some = Cors(("https://a",), methods=("POST",), headers=())
    assert (b"access-control-allow-origin", b"https://a") in some.headers(b"https://a")
    assert some.headers(b"https://b") == [(b"vary", b"Origin")]


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartupError, match="choose another port"):
            listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(StartupError, match="cannot listen on"):
        listen("192.0.2.1", 0)
