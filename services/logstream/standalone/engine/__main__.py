"""`python -m logstream.standalone.engine`: the engine alone, for tests and supervisors."""

import argparse
import sys
from pathlib import Path
from typing import Any

from logstream import logs
from logstream.errors import StartupError
from logstream.settings import EngineSettings
from logstream.standalone.engine.process import fail, run


def main() -> int:
    """Exit status 0 after a stop that was asked for, 1 with one sentence when there was no start."""
    parser = argparse.ArgumentParser(prog="python -m logstream.standalone.engine", description=__doc__)
    parser.add_argument("--path", type=Path, help="data folder")
    parser.add_argument("--host", help="address to listen on; there is no authentication")
    parser.add_argument("--port", type=int, help="0: the system chooses")
    parser.add_argument("--max-memory-bytes", type=int, help="all queries, inserts and merges")
    parser.add_argument("--stop-on-stdin-eof", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("path", "host", "port", "max_memory_bytes")
        if getattr(arguments, name) is not None
    }
    settings = EngineSettings(**given)
    logs.configure(process="engine")
    try:
        run(settings, stop_on_stdin_eof=arguments.stop_on_stdin_eof, on_ready=_announce)
    except StartupError as error:
        return fail(error)
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(url + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
