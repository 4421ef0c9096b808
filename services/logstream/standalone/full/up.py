"""`logstream up-full`: real Kafka, Postgres and ClickHouse's engine, two of each service, under one supervisor.

`python -m logstream.standalone.full.up` is what the command line turns into, so that little but the standard
library stays in memory. What runs, and why in this order: docs/full.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logstream import __version__
from logstream.errors import StartupError
from logstream.standalone import open_files, preflight
from logstream.standalone.banner import Addresses, banner, url
from logstream.standalone.full import ports, servers
from logstream.standalone.full.fetch import CACHE_VARIABLE
from logstream.standalone.full.options import FullOptions, check, parse
from logstream.standalone.full.output import Lines, is_colourful
from logstream.standalone.full.services import Services
from logstream.standalone.full.supervisor import FullSupervisor, Step
from logstream.standalone.pulse import hang_seconds
from logstream.standalone.supervisor import say

MIN_FREE_BYTES = 1024 * preflight.MIB
"""Kafka's and Postgres's files of an empty installation, and some room to work."""
ACCOUNTS_SECONDS = 120.0


def run(options: FullOptions) -> int:
    """Run it until it is stopped; the exit status. Problems are told in one sentence."""
    try:
        return _run(options)
    except StartupError as error:
        say(error.message)
        return 1
    except KeyboardInterrupt:
        say("stopped before everything was fetched; what is there is kept")
        return 130


def _run(options: FullOptions) -> int:
    check(options)
    hang = hang_seconds()
    open_files.raise_limit()
    data = preflight.prepare_folder(options.data)
    lock = preflight.lock(data)
    preflight.check_space(data, minimum=MIN_FREE_BYTES)
    chosen = ports.choose(
        options,
        kafka=not servers.is_given(servers.KAFKA),
        postgres=not servers.is_given(servers.POSTGRES),
        clickhouse=not servers.is_given(servers.CLICKHOUSE),
    )
    collectors = [url(options.host, port) for port in chosen.collectors]
    apis = [url(options.host, port) for port in chosen.apis]
    say(f"starting on {data}")
    below = servers.prepare(data, chosen, (lock,), hang)
    # Ours alone: the services would wonder about a setting they do not know.
    os.environ.pop(CACHE_VARIABLE, None)
    colour = is_colourful()
    above = Services(
        options.host,
        chosen,
        below.environment,
        (lock,),
        ingest_url=collectors[0],
        hang=hang,
        is_terminal=sys.stderr.isatty(),
    )
    login: dict[str, Any] | None = None

    def servers_ready() -> None:
        nonlocal login
        below.prepare_database()
        login = _make_accounts(data, below, ingest_url=collectors[0], api_url=apis[0])

    def all_ready() -> None:
        addresses = Addresses(collectors[0], apis[0], below.clickhouse)
        others = [
            ("collector 2", f"{collectors[1]}/ingest"),
            ("API 2", apis[1]),
            ("processors", ", ".join(f"http://127.0.0.1:{port}/readyz" for port in chosen.processors)),
            ("Kafka", below.kafka),
            ("accounts", below.accounts),
        ]
        has_password = bool(os.environ.get("LOGSTREAM_ENGINE_PASSWORD"))
        text = banner(__version__, addresses, data, login, colour=_is_terminal(), password=has_password)
        _print(_with(text, others, colour=_is_terminal()))

    names = [part.name for part in (*below.parts, *above.all())]
    supervisor = FullSupervisor(
        [Step(below.parts, servers_ready), Step(above.all(), all_ready)],
        # Nothing is accepted any more, then it is stored, and until the end it can be read.
        [above.collectors, above.processors, above.apis, below.parts],
        show=Lines(names, colour=colour).show,
        say=say,
    )
    return supervisor.run()


def _make_accounts(data: Path, below: servers.Servers, *, ingest_url: str, api_url: str) -> dict[str, Any] | None:
    """Tables, stream and first login, by a process of its own; what first-login.json holds, on the first start."""
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "logstream.standalone.full.accounts", "--data", str(data),
                "--ingest-url", ingest_url, "--api-url", api_url,
            ],
            env={**os.environ, **below.environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=ACCOUNTS_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StartupError(f"the accounts' database did not answer within {ACCOUNTS_SECONDS:g} s") from None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise StartupError(f"the accounts could not be made: {reason[-1] if reason else f'status {done.returncode}'}")
    login: dict[str, Any] | None = json.loads(done.stdout)
    return login


def _with(text: str, rows: Sequence[tuple[str, str]], *, colour: bool) -> str:
    """The banner of `logstream up` with further rows below its addresses."""
    dim, plain = ("\033[2m", "\033[0m") if colour else ("", "")
    lines = text.split("\n")
    place = next(number for number, line in enumerate(lines) if "ClickHouse" in line) + 1
    lines[place:place] = [f"  {dim}{name:<11}{plain} {value}" for name, value in rows]
    return "\n".join(lines)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _print(text: str) -> None:
    # A reader that went away (`logstream up-full | head`) is no reason to stop.
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the supervisor's process."""
    # Logs, keys and accounts are this user's, also in a folder that was made before with other rights.
    os.umask(0o077)
    return run(parse(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
