"""Every error LogStream answers with, and its HTTP status.

    LogStreamError
    ├── BadRequest 400           the request cannot be read
    │   └── InvalidValue 400     a named field or parameter is wrong (`field`, and `limit` where there is one)
    ├── Unauthenticated 401      no key, an unknown, revoked or expired one
    ├── Forbidden 403            a known caller lacks the scope or the role
    ├── NotFound 404
    ├── Conflict 409             it exists already, or the state forbids it
    │   └── ReadCancelled 409    a read was cancelled, by request or because its client left
    ├── PreconditionFailed 412   If-Match names another state than the present one
    ├── TooLarge 413             body, decompressed size, number of records
    ├── UnsupportedEncoding 415  content type or content encoding
    ├── KeyReused 422            an Idempotency-Key came again with another body
    ├── TooExpensive 422         a read exceeds a limit of time, rows, bytes or memory: ask for less, not again
    ├── TooMany 429              quota, login throttle, cap on clients (`retry_after`)
    └── Unavailable 503          (`retry_after`)
        ├── BusUnavailable       the log cannot take a record now
        │   └── BusFull          the log has reached its size limit, or the disk its floor
        ├── StoreUnavailable     ClickHouse is away, slow or restarting: retry
        └── ShuttingDown

    StoreRefused (not an answer)    ClickHouse will never take this block: bisect it
    OffsetOutOfRange (not an answer) the log no longer, or not yet, has this offset
    Fenced (not an answer)          the partition belongs to another member of the group now
    StartupError (not an answer)    one clear sentence, then exit status 1

One table maps code to status (`status` on each class); one handler (`logstream.web`) turns an error into
`{"error": {"code", "message", "field"?, "limit"?}}`.
"""

import math
from typing import ClassVar


class LogStreamError(Exception):
    """An error with a stable code, an HTTP status and a sentence that says what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, field: str | None = None, limit: int | float | str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.limit = limit

    def body(self) -> dict[str, dict[str, object]]:
        """The JSON answer."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        if self.limit is not None:
            error["limit"] = self.limit
        return {"error": error}


class BadRequest(LogStreamError):
    code = "bad_request"
    status = 400


class InvalidValue(BadRequest):
    code = "invalid_value"


class Unauthenticated(LogStreamError):
    code = "unauthenticated"
    status = 401


class Forbidden(LogStreamError):
    code = "forbidden"
    status = 403


class NotFound(LogStreamError):
    code = "not_found"
    status = 404


class MethodNotAllowed(LogStreamError):
    code = "method_not_allowed"
    status = 405


class RequestTimeout(LogStreamError):
    code = "request_timeout"
    status = 408


class Conflict(LogStreamError):
    code = "conflict"
    status = 409


class ReadCancelled(Conflict):
    code = "cancelled"


class PreconditionFailed(LogStreamError):
    code = "precondition_failed"
    status = 412


class TooLarge(LogStreamError):
    code = "too_large"
    status = 413


class UnsupportedEncoding(LogStreamError):
    code = "unsupported_encoding"
    status = 415


class KeyReused(LogStreamError):
    code = "idempotency_key_reused"
    status = 422


class TooExpensive(LogStreamError):
    """Not 408, after which clients repeat by themselves, and not 413, which is about what is sent or answered."""

    code = "query_too_expensive"
    status = 422


class RetryLater(LogStreamError):
    """Shared by 429 and 503: the answer carries `Retry-After` in whole seconds, at least 1."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 1.0,
        field: str | None = None,
        limit: int | float | str | None = None,
    ) -> None:
        super().__init__(message, field=field, limit=limit)
        self.retry_after = max(1, math.ceil(retry_after))


class TooMany(RetryLater):
    code = "too_many_requests"
    status = 429


class Unavailable(RetryLater):
    code = "unavailable"
    status = 503


class BusUnavailable(Unavailable):
    code = "log_unavailable"


class BusFull(BusUnavailable):
    code = "log_full"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class StoreRefused(LogStreamError):
    """ClickHouse understood the insert and will never take it; `clickhouse_code` is its exception code."""

    code = "store_refused"

    def __init__(self, message: str, *, clickhouse_code: int = 0) -> None:
        super().__init__(message)
        self.clickhouse_code = clickhouse_code


class OffsetOutOfRange(LogStreamError):
    """The asked offset is outside `[beginning, end]` of the partition."""

    code = "offset_out_of_range"

    def __init__(self, message: str, *, beginning: int, end: int) -> None:
        super().__init__(message)
        self.beginning = beginning
        self.end = end


class Fenced(LogStreamError):
    """The partition is not ours any more, or its topic was made anew: stop at once, keep nothing of it."""

    code = "fenced"


class StartupError(LogStreamError):
    """A reason not to start, in one sentence for a person; the process prints it and exits with 1."""

    code = "startup"
