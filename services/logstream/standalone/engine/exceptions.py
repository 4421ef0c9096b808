"""ClickHouse's exceptions over HTTP: code, text and status."""

import re

_TEXT = re.compile(r"Code: (\d+)\. (?:DB::)?(?:NetException|Exception|ErrnoException|ParsingException)?.*", re.DOTALL)

BAD_ARGUMENTS = 36
UNKNOWN_EXCEPTION = 1002
SYNTAX_ERROR = 62
NOT_IMPLEMENTED = 48
READONLY = 164
ACCESS_DENIED = 497
AUTHENTICATION_FAILED = 516
INCORRECT_DATA = 117
QUERY_IS_TOO_LARGE = 229
SOCKET_TIMEOUT = 209
TOO_MANY_SIMULTANEOUS_QUERIES = 202
QUERY_WAS_CANCELLED = 394
UNSUPPORTED_MEDIA_TYPE = 779

# Which codes are not 500: ClickHouse src/Server/HTTP/exceptionCodeToHTTPStatus.cpp.
_BAD_REQUEST = (
    6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675, 676,
)  # fmt: skip
_NOT_FOUND = (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511)
_STATUS = {
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    159: 408,
    QUERY_IS_TOO_LARGE: 413,
    UNSUPPORTED_MEDIA_TYPE: 415,
    NOT_IMPLEMENTED: 501,
    AUTHENTICATION_FAILED: 403,
    **dict.fromkeys((76, SOCKET_TIMEOUT, 439), 503),
    # Ours: a real server answers this with 500. 503 also tells clients that look no further to come back.
    TOO_MANY_SIMULTANEOUS_QUERIES: 503,
}


class EngineError(Exception):
    """An exception of the engine, or one of our own in the same form.

    code: ClickHouse's exception code. text: "Code: N. DB::Exception: …" without a version.
    """

    def __init__(self, code: int, message: str, name: str = "", *, status: int | None = None) -> None:
        suffix = f" ({name})" if name else ""
        super().__init__(f"Code: {code}. DB::Exception: {message}{suffix}")
        self.code = code
        self._status = status

    @property
    def text(self) -> str:
        return str(self)

    @property
    def status(self) -> int:
        return self._status or _STATUS.get(self.code, 500)

    @classmethod
    def of(cls, error: Exception) -> "EngineError":
        """What chDB raised, without the words its Python layer puts in front."""
        # A text that quotes data which are not UTF-8 fails in chDB's Python layer; it is inside of that failure.
        said = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
        match = _TEXT.search(said)
        made = cls(int(match.group(1)) if match else UNKNOWN_EXCEPTION, said, "UNKNOWN_EXCEPTION")
        if match:
            made.args = (match.group().rstrip(),)
        return made
