"""ClickHouse's exceptions over HTTP: code, text and status."""

import re

_TEXT = re.compile(r"Code: (\d+)\. (?:DB::)?(?:NetException|Exception|ErrnoException|ParsingException)?.*", re.DOTALL)

BAD_ARGUMENTS = 36
UNKNOWN_EXCEPTION = 1002
SYNTAX_ERROR = 62
NOT_IMPLEMENTED = 48
READONLY = 164
INCORRECT_DATA = 117
QUERY_IS_TOO_LARGE = 307
TOO_MANY_SIMULTANEOUS_QUERIES = 202
QUERY_WAS_CANCELLED = 394
UNSUPPORTED_MEDIA_TYPE = 748
ABORTED = 236

# ClickHouse src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; every other code is 500.
_STATUS = {
    194: 401,
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((6, 15, 16, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 72, 117, 167, 168, 321, 427, 441), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 83, 115, 311, 336, 511), 404),
    **dict.fromkeys((675, 676), 400),
    159: 408,
    381: 411,
    QUERY_IS_TOO_LARGE: 413,
    UNSUPPORTED_MEDIA_TYPE: 415,
    NOT_IMPLEMENTED: 501,
    **dict.fromkeys((74, 209, 439), 503),
    # Ours: a real server refuses these with 500 and leaves the client to read the code.
    TOO_MANY_SIMULTANEOUS_QUERIES: 503,
    ABORTED: 503,
}


class EngineError(Exception):
    """An exception of the engine, or one of our own in the same form.

    code: ClickHouse's exception code. text: "Code: N. DB::Exception: …" without a version.
    """

    def __init__(self, code: int, message: str, name: str = "") -> None:
        suffix = f" ({name})" if name else ""
        super().__init__(f"Code: {code}. DB::Exception: {message}{suffix}")
        self.code = code

    @property
    def text(self) -> str:
        return str(self)

    @property
    def status(self) -> int:
        return _STATUS.get(self.code, 500)

    @classmethod
    def of(cls, error: Exception) -> "EngineError":
        """What chDB raised, without the words its Python layer puts in front."""
        match = _TEXT.search(str(error))
        made = cls(int(match.group(1)) if match else UNKNOWN_EXCEPTION, str(error), "UNKNOWN_EXCEPTION")
        if match:
            made.args = (match.group().rstrip(),)
        return made
