"""LogStream's own structured logs: one event a line, on standard error; JSON unless a person is looking."""

import logging
import sys
from typing import Any

import structlog

_SECRET_FIELDS = frozenset({"authorization", "password", "secret", "token", "ticket", "api_key", "key"})


def _mask_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # A last line of defence: nothing should pass a secret to a logger in the first place.
    for name in event:
        if name.lower() in _SECRET_FIELDS:
            event[name] = "***"
    return event


def configure(*, level: str = "info", process: str = "logstream", json: bool | None = None) -> None:
    """Set up structlog and the standard library's logging for this process.

    level: trace is not known here; debug, info, warning or error. json: None chooses by whether
    standard error is a terminal.
    """
    use_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if use_json
        # Its default traceback shows local variables, and those may hold passwords and keys.
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([structlog.processors.format_exc_info] if use_json else []),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.contextvars.bind_contextvars(service=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one subject, e.g. "processor"."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name, subject=name)
    return logger
