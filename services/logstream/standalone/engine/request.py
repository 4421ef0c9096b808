"""An HTTP request, as ClickHouse's interface defines it, into a statement to run. Pure: no I/O, no engine."""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qsl

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.sql import Shape, forbidden, shape

MAX_QUERY_BYTES = 1024 * 1024
"""Text of one statement; inline data does not count."""

# What is no setting of a query: read here, or meaningless without sessions, users and progress headers.
_NOT_SETTINGS = frozenset({
    "query", "database", "user", "password", "query_id", "default_format", "wait_end_of_query", "buffer_size",
    "session_id", "session_timeout", "session_check", "close_session", "compress", "decompress", "quota_key", "role",
    "client_protocol_version", "enable_http_compression", "http_zlib_compression_level", "stacktrace",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "add_http_cors_header",
    "cancel_http_readonly_queries_on_client_close", "http_wait_end_of_query", "http_response_buffer_size",
})  # fmt: skip

# Formats whose pieces concatenate: nothing in front of the first row, nothing behind the last.
_STREAMABLE = frozenset({
    "native", "rowbinary", "tabseparated", "tabseparatedraw", "tsv", "tsvraw", "raw", "csv", "jsoneachrow",
    "jsoncompacteachrow", "jsonstringseachrow", "jsoncompactstringseachrow", "ndjson", "jsonl", "jsonlines", "tskv",
    "rawblob", "lineasstring", "msgpack",
})  # fmt: skip
# Formats of large results whose pieces do not: the engine writes them as one file, into a pipe.
_PIPED = frozenset({"parquet", "csvwithnames"})
_SELECTS = frozenset({"SELECT", "WITH", ""})
_RETURNS_ROWS = _SELECTS | {"SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS", "CHECK", "KILL"}


class Kind(Enum):
    """How a statement runs."""

    INSERT = "insert"  # data pushed into the engine
    STREAM = "stream"  # a result in pieces
    PIPE = "pipe"  # a file in pieces
    WHOLE = "whole"  # everything else: the answer is held in memory


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and everything the request says about running it.

    data: for Kind.INSERT the pieces of the data, in order; running the statement consumes them.
    insert_settings: its SETTINGS clause. parameters: values of `{name:Type}` in ClickHouse's escaped text form.
    output_at: for Kind.PIPE, where in `sql` its FORMAT clause begins. read_only: it must not change anything.
    wait_end: hold the answer back until it is known to be good.
    compress: the answer may be compressed.
    """

    kind: Kind
    verb: str
    sql: str
    format: str
    data: deque[bytes] = field(default_factory=deque)
    insert_settings: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = "default"
    query_id: str = ""
    output_at: int = 0
    read_only: bool = False
    wait_end: bool = False
    compress: bool = False

    @property
    def returns_rows(self) -> bool:
        """Whether it has a result, if an empty one, and so a format."""
        return self.verb in _RETURNS_ROWS


def parse(
    method: str, query_string: bytes, headers: Mapping[bytes, bytes], body: Sequence[bytes], form: Mapping[str, str]
) -> Statement:
    """The statement a request asks for.

    headers: names in lower case. body: the decompressed body in pieces. form: fields of a multipart body.
    Raises EngineError as ClickHouse would.
    """
    arguments = dict(parse_qsl(query_string.decode("ascii", "replace"), keep_blank_values=True)) | dict(form)
    if arguments.get("compress", "0") not in ("0", "false") or arguments.get("decompress", "0") not in ("0", "false"):
        raise EngineError(
            exceptions.NOT_IMPLEMENTED, "compress and decompress: use Content-Encoding instead", "NOT_IMPLEMENTED"
        )
    text = arguments.get("query", "").encode()
    pieces = list(body)
    if text:
        pieces.insert(0, text + b"\n")
    head, rest, form_of = _head(pieces)
    common = {
        "parameters": {k[6:]: v for k, v in arguments.items() if k.startswith("param_")},
        "settings": {k: v for k, v in arguments.items() if k not in _NOT_SETTINGS and not k.startswith("param_")},
        "database": arguments.get("database") or headers.get(b"x-clickhouse-database", b"").decode() or "default",
        "query_id": arguments.get("query_id") or str(uuid.uuid4()),
        "read_only": method == "GET",
        "wait_end": arguments.get("wait_end_of_query", "0") in ("1", "true"),
        "compress": arguments.get("enable_http_compression", "1") in ("1", "true"),
    }
    if form_of.takes_data:
        assert form_of.format is not None
        begin, settings = head[: form_of.insert_end], form_of.settings
        _permit(begin + settings)
        data = deque(p for p in (head[form_of.data_start :], *rest) if p)
        return Statement(
            Kind.INSERT,
            form_of.verb,
            _text(begin),
            form_of.format,
            data,
            insert_settings=_text(settings),
            **common,  # type: ignore[arg-type]
        )
    # An INSERT … VALUES has its data in the text; everything else has a limit.
    whole = b"".join((head, *rest))
    if form_of.verb != "INSERT" and len(whole) > MAX_QUERY_BYTES:
        raise EngineError(
            exceptions.QUERY_IS_TOO_LARGE, f"query is larger than {MAX_QUERY_BYTES} bytes", "QUERY_IS_TOO_LARGE"
        )
    _permit(whole)
    name = form_of.format or arguments.get("default_format") or headers.get(b"x-clickhouse-format", b"").decode()
    name = name or "TabSeparated"
    kind, output_at = Kind.WHOLE, 0
    if form_of.verb in _SELECTS and name.lower() in _STREAMABLE:
        kind = Kind.STREAM
    elif form_of.verb in _SELECTS and name.lower() in _PIPED and form_of.format_start is not None:
        kind, output_at = Kind.PIPE, len(_text(whole[: form_of.format_start]))
    return Statement(kind, form_of.verb, _text(whole), name, output_at=output_at, **common)  # type: ignore[arg-type]


def _head(pieces: list[bytes]) -> tuple[bytes, list[bytes], Shape]:
    """A front that holds the whole statement, the pieces behind it, and the statement's shape.

    The first piece of an INSERT usually holds the statement, so that its data need no copy.
    """
    if not pieces:
        return b"", [], Shape("")
    first = shape(pieces[0])
    if first.takes_data and (len(pieces) == 1 or pieces[0].endswith(b"\n") or first.data_start != len(pieces[0])):
        return pieces[0], pieces[1:], first
    size = count = 0
    for piece in pieces:
        size += len(piece)
        count += 1
        if size > MAX_QUERY_BYTES:
            break
    head = b"".join(pieces[:count])
    return head, pieces[count:], shape(head)


def _permit(sql: bytes) -> None:
    found = forbidden(sql)
    if found is not None:
        raise EngineError(
            exceptions.ACCESS_DENIED,
            f"{found} is refused: statements may not reach the files and programs of this machine",
            "ACCESS_DENIED",
            status=403,
        )


def _text(sql: bytes) -> str:
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise EngineError(
            exceptions.SYNTAX_ERROR, f"the statement is not UTF-8 at byte {error.start}", "SYNTAX_ERROR"
        ) from None
