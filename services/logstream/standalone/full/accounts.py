"""The one-off job before the services start: the accounts' tables, the first stream, the first login.

A process of its own, because the supervisor has nothing but the standard library in memory. The accounts are those
that LOGSTREAM_AUTH_… names; the answer on standard output is what first-login.json holds, or null when this is not
the first start.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from logstream.auth.accounts import Accounts
from logstream.clock import SystemClock
from logstream.errors import LogStreamError
from logstream.run.load import load
from logstream.run.settings import ApiProcess
from logstream.standalone import first_login
from logstream.stream import make_stream

STREAM = "default"
RETENTION_DAYS = 30


async def _run(data: Path, ingest_url: str, api_url: str) -> None:
    # As the services read them, files that the environment names included.
    settings = load(ApiProcess, environ=os.environ).settings
    accounts = await Accounts.open(settings.auth, SystemClock())
    try:
        await accounts.ensure_stream(make_stream(STREAM), retention_days=RETENTION_DAYS)
        login = await first_login.ensure(accounts, data, ingest_url=ingest_url, api_url=api_url)
    finally:
        await accounts.close()
    sys.stdout.write(json.dumps(login) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 with one sentence."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ingest-url", required=True)
    parser.add_argument("--api-url", required=True)
    given = parser.parse_args(arguments)
    try:
        asyncio.run(_run(given.data, given.ingest_url, given.api_url))
    except (LogStreamError, OSError) as error:
        sys.stderr.write(f"{getattr(error, 'message', error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
