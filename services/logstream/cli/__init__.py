"""The `logstream` command."""

import sys


def main() -> None:
    """Entry point of the console script. Exit status: 0 done, 1 failure, 2 wrong usage, 130 interrupted."""
    try:
        from logstream.cli import output
        from logstream.cli.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"typer", "rich", "click", "httpx", "msgspec"}:
            raise
        sys.stderr.write(
            f"logstream: the command line needs the package {error.name}; "
            "install it with: pip install 'logstream-platform[cli]' (or [all] for `logstream up`)\n"
        )
        sys.exit(1)
    try:
        status = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # Found out by the last flush.
        output.hush()
        status = 0
    sys.exit(status)
