"""One chDB connection: statements one at a time, with the settings of each. Blocking; may be used from any thread."""

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.exceptions import EngineError
from logstream.standalone.engine.request import Statement

_PIPE_BYTES = 1024 * 1024
_PIECE_BYTES = 512 * 1024
_HELD_BYTES = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Statements that change the connection itself; over HTTP without sessions they end with the request.
_CHANGES_SESSION = frozenset({"SET", "USE"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement did; becomes X-ClickHouse-Summary."""

    body: bytes = b""
    rows_read: int = 0
    bytes_read: int = 0
    rows_written: int = 0
    bytes_written: int = 0
    seconds: float = 0.0


def quote(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _read_only() -> EngineError:
    return EngineError(
        exceptions.READONLY,
        "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
        "You should use method POST for modifying queries",
        "READONLY",
    )


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Connection:
    """Settings and the current database stay set between statements and are changed only where they differ."""

    def __init__(
        self, connect: Callable[[], Any], name: str, *, defaults: Mapping[str, str], forced: Mapping[str, str]
    ) -> None:
        """connect: makes a chDB connection. defaults: settings a request may change, forced: those it may not."""
        self.name = name
        self._connect = connect
        self._defaults = defaults
        # The name finds a running statement in system.processes, so that it can be killed.
        self._forced = {**forced, "log_comment": name}
        self._open()

    def _open(self) -> None:
        self._chdb: Any = self._connect()
        self._settings: dict[str, str] = {}
        self._database = "default"
        self._result: Any = None
        self._file: Generator[memoryview] | None = None

    def close(self) -> None:
        self._chdb.close()

    def _reopen(self) -> None:
        with contextlib.suppress(Exception):
            self._chdb.close()
        self._open()

    def _prepare(self, statement: Statement) -> None:
        wanted = {**self._defaults, **statement.settings, **self._forced}
        for name in wanted:
            if not _NAME.fullmatch(name):
                raise EngineError(115, f"Setting {name} is neither a builtin setting nor started with the prefix "
                                       "'SQL_' registered for user-defined settings", "UNKNOWN_SETTING")  # fmt: skip
        changes = [f"{k} = {quote(v)}" for k, v in wanted.items() if self._settings.get(k) != v]
        changes += [f"{k} = DEFAULT" for k in self._settings if k not in wanted]
        used = bool(self._settings)
        try:
            if changes:
                self._chdb.query("SET " + ", ".join(changes))
                self._settings = wanted
            if statement.database != self._database:
                self._chdb.query("USE `" + statement.database.replace("\\", "\\\\").replace("`", "\\`") + "`")
                self._database = statement.database
        except Exception as error:
            self._reopen()
            if not used:
                raise EngineError.of(error) from None
            # An earlier statement's settings may forbid changing them (readonly, allow_ddl): again without them.
            self._prepare(statement)

    def run(self, statement: Statement) -> Outcome:
        """Run a statement whose answer is held whole. Raises EngineError."""
        self._check(statement)
        self._prepare(statement)
        try:
            result = self._chdb.query(statement.sql, statement.format, params=dict(statement.parameters))
            return Outcome(
                result.bytes(), result.storage_rows_read(), result.storage_bytes_read(),
                result.rows_written(), result.bytes_written(), result.elapsed(),
            )  # fmt: skip
        except Exception as error:
            raise EngineError.of(error) from None
        finally:
            if statement.verb in _CHANGES_SESSION:
                self._reopen()

    def _check(self, statement: Statement) -> None:
        if statement.verb == "SELECT" and ";" not in statement.sql:
            # Can be but one statement, which only reads; to be told so by the engine takes half a millisecond.
            return
        told = self._chdb._conn.classify_query(statement.sql)
        if told["statement_count"] > 1:
            raise EngineError(exceptions.SYNTAX_ERROR, "Multi-statements are not allowed", "SYNTAX_ERROR")
        if statement.read_only and told["query_class"].name not in ("READ_ONLY", "CONTROL") and told["statement_count"]:
            raise _read_only()

    def insert(self, statement: Statement) -> Outcome:
        """Push the data of an INSERT and commit it. Raises EngineError; then nothing of a single block is stored."""
        if statement.read_only:
            raise _read_only()
        self._prepare(statement)
        # Not chDB's `send_insert`: its `finish` answers success when the last step fails (a violated constraint,
        # no memory or disk for the part). INFILE from anonymous memory costs the same and raises what went wrong.
        memory = os.memfd_create("insert", os.MFD_CLOEXEC)
        try:
            while statement.data:
                # Taken one by one, so that what was copied is freed.
                _write_all(memory, statement.data.popleft())
            # The source stands in front of SETTINGS (ClickHouse `src/Parsers/ParserInsertQuery.cpp`).
            source = f" FROM INFILE '/proc/self/fd/{memory}' COMPRESSION 'none' "
            sql = f"{statement.sql}{source}{statement.insert_settings} FORMAT {statement.format}"
            result = self._chdb.query(sql, "Native")
        except Exception as error:
            raise EngineError.of(error) from None
        finally:
            os.close(memory)
        return Outcome(
            rows_written=result.rows_written(), bytes_written=result.bytes_written(), seconds=result.elapsed()
        )

    def stream(self, statement: Statement) -> Iterator[memoryview]:
        """The result in pieces of at most about 64 k rows. Raises EngineError between any two.

        A piece is the engine's own memory, valid until the next one is asked for. The connection takes nothing
        else until the last piece was read or `abandon` was called.
        """
        self._check(statement)
        self._prepare(statement)
        try:
            self._result = self._chdb.send_query(statement.sql, statement.format, params=dict(statement.parameters))
            for piece in self._result:
                memory = piece.get_memview()
                yield memory.view()
            self._result = None
        except Exception as error:
            raise EngineError.of(error) from None

    def pipe(self, statement: Statement) -> Iterator[memoryview]:
        """As `stream`, for a format that is one file: the engine writes it into a pipe, and waits while it is full."""
        self._file = self._pipe(statement)
        return self._file

    def _pipe(self, statement: Statement) -> Generator[memoryview]:
        self._check(statement)
        self._prepare(statement)
        reading, writing = os.pipe()
        failures: list[Exception] = []
        at = statement.output_at
        target = f"\nINTO OUTFILE '/proc/self/fd/{writing}' TRUNCATE COMPRESSION 'none' "
        sql = statement.sql[:at] + target + statement.sql[at:]

        def write() -> None:
            try:
                self._chdb.query(sql, "Native", params=dict(statement.parameters))
            except Exception as error:
                failures.append(error)
            finally:
                os.close(writing)

        with contextlib.suppress(OSError):  # as far as the machine allows
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        writer = threading.Thread(target=write, name=f"{self.name}-pipe", daemon=True)
        writer.start()
        try:
            view = memoryview(bytearray(_PIECE_BYTES))
            held = 0
            while size := os.readv(reading, [view[held:]]):
                held += size
                # A format may begin before the statement has been looked at.
                if held > _HELD_BYTES:
                    yield view[:held]
                    held = 0
            writer.join()
            if failures:
                raise EngineError.of(failures[0]) from None
            if held:
                yield view[:held]
        finally:
            os.close(reading)  # whoever still writes fails
            writer.join()
            self._file = None

    @property
    def piping(self) -> bool:
        """Whether a file is being written that was not read to its end."""
        return self._file is not None

    def abandon(self) -> None:
        """Make the connection free after a statement that was not read to its end.

        One that writes a file must have been killed: else this waits until it has found something to write.
        """
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._result is not None:
            with contextlib.suppress(Exception):
                self._result.cancel()
            self._result = None
            self._reopen()

    def plain_default_database(self, *, has_tables: bool) -> None:
        """Make `default` a database like any other. To be called once, before anything else uses it.

        chDB starts with one that also shows the machine's files as tables, which the user may not read, so that
        nothing could be done in it. has_tables: keep those that were stored in it; an empty one cannot be attached.
        """
        verbs = ("DETACH", "ATTACH") if has_tables else ("DROP", "CREATE")
        for verb in verbs:
            self._chdb.query(f"{verb} DATABASE default" + (" ENGINE = Atomic" if verb == "CREATE" else ""))
        self._chdb.query("USE default")

    def kill(self, name: str) -> None:
        """Cancel what runs on the connection called `name`."""
        with contextlib.suppress(Exception):
            self._chdb.query(f"KILL QUERY WHERE Settings['log_comment'] = {quote(name)} ASYNC")
