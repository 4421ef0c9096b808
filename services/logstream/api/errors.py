"""Errors as answers: `{"error": {"code", "message", "field"?, "limit"?}}`, whatever raised them."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from logstream.errors import (
    BadRequest,
    InvalidValue,
    LogStreamError,
    MethodNotAllowed,
    NotFound,
    RetryLater,
    Unauthenticated,
)
from logstream.logs import get_logger

_log = get_logger("api")
_BOUNDS = ("le", "ge", "lt", "gt", "max_length", "min_length", "pattern")


def error_response(error: LogStreamError) -> JSONResponse:
    """The answer that says `error`."""
    headers: dict[str, str] = {}
    if isinstance(error, RetryLater):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500 and error.code not in _EXPECTED:
        _log.error("request failed", code=error.code, reason=error.message)
        return JSONResponse({"error": {"code": "internal", "message": "internal error; see the server's log"}}, 500)
    return JSONResponse(error.body(), error.status, headers)


_EXPECTED = frozenset({"unavailable", "log_unavailable", "log_full", "store_unavailable", "shutting_down"})


def close_code(error: LogStreamError) -> int:
    """The WebSocket close code of `error`: 4000 + HTTP status, which leaves 4400–4599 of the private range."""
    return 4000 + error.status


def close_reason(message: str) -> str:
    """`message` within the 123 bytes that a close frame has room for."""
    encoded = message.encode()
    return message if len(encoded) <= 123 else encoded[:120].decode(errors="ignore") + "…"


async def _answer(connection: HTTPConnection, error: LogStreamError) -> Response | None:
    if isinstance(connection, WebSocket) and "origin" in connection.headers:
        # A browser shows a script neither status nor body of a refused upgrade: only a close frame reaches it.
        await connection.accept()
        await connection.close(close_code(error), close_reason(error.message))
        return None
    return error_response(error)


def from_validation(problems: Any) -> LogStreamError:
    """FastAPI's complaint about a parameter or a body as an error that names field and limit."""
    problem = problems[0]
    where = [str(part) for part in problem["loc"][1:]] or [str(problem["loc"][0])]
    if problem["type"] == "json_invalid":
        return BadRequest("the body is not valid JSON", field="body")
    field = ".".join(where)
    message = str(problem["msg"]).removeprefix("Value error, ")
    for old, new in (("Input should", f"{field} should"), ("String should", f"{field} should")):
        message = message.replace(old, new)
    if field not in message:
        message = f"{field}: {message}"
    context = problem.get("ctx") or {}
    limit = next((context[name] for name in _BOUNDS if name in context), None)
    return InvalidValue(message, field=field, limit=limit)


def install(app: FastAPI) -> None:
    """Make every error of `app` an answer of the one form."""

    async def ours(connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, LogStreamError)
        return await _answer(connection, error)

    async def invalid(connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
        return await _answer(connection, from_validation(error.errors()))

    async def http(connection: HTTPConnection, error: Exception) -> Response | None:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return await _answer(connection, NotFound(f"there is nothing at {connection.url.path[:200]}"))
        if error.status_code == 405:
            response = error_response(MethodNotAllowed("this address does not take this method"))
            response.headers.update(error.headers or {})
            return response
        if error.status_code == 400:
            return await _answer(connection, BadRequest(str(error.detail)))
        body = {"error": {"code": "http_error", "message": str(error.detail)}}
        return JSONResponse(body, error.status_code, dict(error.headers or {}))

    async def unexpected(_connection: HTTPConnection, _error: Exception) -> Response:
        return JSONResponse({"error": {"code": "internal", "message": "internal error; see the server's log"}}, 500)

    app.add_exception_handler(LogStreamError, ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]
    app.add_exception_handler(WebSocketRequestValidationError, invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, http)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, unexpected)
