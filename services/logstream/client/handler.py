"""`logging` to LogStream."""

import logging
import time
import traceback
from collections.abc import Mapping
from typing import Any

from logstream.client import guard
from logstream.client.client import Client
from logstream.client.encode import flatten, text

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# As OpenTelemetry's instrumentation of logging names them, and as people do.
_TRACE_IDS = ("trace_id", "otelTraceID")
_SPAN_IDS = ("span_id", "otelSpanID")
_JUST_NOW = 1.0
_NAMES = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "TRACE", "NOTSET"}


class LogStreamHandler(logging.Handler):
    """A handler whose `emit` puts the record into a client's buffer.

    client: one to share; else the handler makes its own with `options` (see Client) and closes it with itself, which
    `logging` does at the end of the program.
    """

    def __init__(self, client: Client | None = None, *, level: int | str = logging.NOTSET, **options: Any) -> None:
        if client is not None and options:
            raise ValueError(f"{', '.join(options)}: give them to the client")
        super().__init__(level)
        self._owns = client is None
        self._gave_up = float("-inf")
        self.client = client if client is not None else Client(at_exit=False, **options)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """Take a formatter for messages, but for the one that `basicConfig` gives to every handler without one."""
        if getattr(fmt, "_fmt", None) != logging.BASIC_FORMAT:
            super().setFormatter(fmt)

    def handle(self, record: logging.LogRecord) -> bool:
        # Before the handler's lock: at the end `logging` holds it while it waits for the thread that sends.
        return not guard.is_sending() and bool(super().handle(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises and never waits for the network."""
        with guard.taking as wanted:
            if not wanted:
                return
            try:
                metadata = _metadata(record)
                self.client.send(
                    self._message(record),
                    level=level_name(record.levelno),
                    timestamp=int(record.created * 1e6) * 1000,  # a float is no more precise
                    metadata=metadata,
                    trace_id=_take(metadata, _TRACE_IDS),
                    span_id=_take(metadata, _SPAN_IDS),
                )
            except Exception:
                self.handleError(record)

    def _message(self, record: logging.LogRecord) -> str:
        try:
            message = self.format(record) if self.formatter is not None else record.getMessage()
        except Exception:
            # Arguments that do not fit: what was meant is worth more than an error about it.
            message = f"{text(record.msg)} {text(record.args)}"
        if not message and record.exc_info and record.exc_info[1] is not None:
            message = "".join(traceback.format_exception_only(record.exc_info[1])).strip()
        return message

    def flush(self) -> None:
        """Send what is here, for at most the client's exit_seconds."""
        if not self.client.flush():
            self._gave_up = time.monotonic()

    def close(self) -> None:
        if self._owns:
            # `logging` flushes before it closes: what did not work is not waited for again.
            self.client.close(0.0 if time.monotonic() - self._gave_up < _JUST_NOW else None)
        super().close()


def level_name(number: int) -> str:
    """LogStream's level for a number of `logging`, which also fits loguru's."""
    if number < logging.INFO:
        return "debug" if number >= logging.DEBUG else "trace"
    if number < logging.WARNING:
        return "info"
    if number < logging.ERROR:
        return "warn"
    return "error" if number < logging.CRITICAL else "fatal"


def _metadata(record: logging.LogRecord) -> dict[str, str]:
    metadata = {"logger": record.name, "source": f"{record.filename}:{record.lineno}"}
    if record.threadName and record.threadName != "MainThread":
        metadata["thread"] = record.threadName
    if record.levelname not in _NAMES:
        metadata["level_name"] = record.levelname
    extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    # loguru hands its bound values over as one mapping.
    if isinstance(inner := extra.get("extra"), Mapping):
        del extra["extra"]
        extra = {**inner, **extra}
    for name, value in flatten(extra):
        metadata[name if name not in metadata else f"{name}_2"] = value
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        metadata["exception.type"] = type(error).__qualname__
        metadata["exception.message"] = text(error)
        metadata["exception.stacktrace"] = _stack(error)
    if record.stack_info:
        metadata["stack"] = record.stack_info
    return metadata


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except Exception:
        return f"{type(error).__qualname__} without a text"


def _take(metadata: dict[str, str], names: tuple[str, ...]) -> str:
    """The first of `names` that says something; all of them leave the metadata."""
    found = ""
    for name in names:
        value = metadata.pop(name, "")
        if not found and value.strip("0") and value != "null":
            found = value
    return found
