"""`python -m logstream.run collector|processor|api`: what the command line turns into."""

import argparse
import faulthandler
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from logstream import logs
from logstream.run import lifecycle, show
from logstream.run.load import Loaded, WrongSettings, load
from logstream.run.settings import PROCESSES, ProcessSettings

WRONG = 2
"""Exit status of settings that cannot be used, also with --check-config."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 after a stop that was asked for, 1 with one sentence when it cannot start, 2 for wrong settings."""
    parser = argparse.ArgumentParser(prog="python -m logstream.run", description=__doc__)
    parser.add_argument("process", choices=list(PROCESSES))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--check-config", action="store_true")
    parser.add_argument("--check-connections", action="store_true")
    parser.add_argument("--print-config", action="store_true")
    given = parser.parse_args(arguments)
    try:
        loaded = load(PROCESSES[given.process], environ=os.environ, path=given.config)
    except WrongSettings as error:
        for problem in error.problems:
            _say(problem)
        return WRONG
    if given.print_config:
        sys.stdout.write("".join(f"{line}\n" for line in show.lines(loaded)))
    if given.check_config or given.check_connections:
        return _check(loaded, connections=given.check_connections)
    return 0 if given.print_config else _run(loaded)


def _check(loaded: Loaded[Any], *, connections: bool) -> int:
    for warning in loaded.warnings:
        _say(f"warning: {warning}")
    if connections:
        from logstream.run.check import check

        away = check(loaded.settings)
        for name, reason in away.items():
            _say(f"{name}: {reason}")
        if away:
            return WRONG
    _say(f"the settings of `logstream {loaded.settings.name}` are right{', and all is reached' * connections}")
    return 0


def _run(loaded: Loaded[Any]) -> int:
    settings: ProcessSettings = loaded.settings
    form = settings.log.format
    logs.configure(level=settings.log.level, process=settings.name, json=None if form == "auto" else form == "json")
    for library in ("uvicorn", "alembic"):
        # Their start and stop lines say less than ours.
        logging.getLogger(library).setLevel(logging.WARNING)
    # Native code (Kafka's client, the event loop) may fault: then the log has where.
    faulthandler.enable()
    log = logs.get_logger("process")
    for warning in loaded.warnings:
        log.warning("setting not understood", reason=warning)
    process = _process(settings.name)
    return lifecycle.run(lambda: process(settings), hang_seconds=settings.run.hang_seconds)


def _process(name: str) -> Callable[[Any], Awaitable[None]]:
    # Imported here: a collector needs neither FastAPI nor the reader's code.
    if name == "collector":
        from logstream.run import collector

        return collector.main
    if name == "processor":
        from logstream.run import processor

        return processor.main
    from logstream.run import api

    return api.main


def _say(text: str) -> None:
    sys.stderr.write(f"logstream: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
