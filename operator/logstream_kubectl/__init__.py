"""`kubectl logstream`: LogStreams of a cluster, by kubectl and the command line of LogStream.

It needs kubectl and the extra `cli`, and none of the operator's own packages.
"""

import sys


def main() -> None:
    """Entry point of the console script `kubectl-logstream`, which kubectl runs for `kubectl logstream`.

    Exit status: 0 done, 1 failure, 2 wrong usage, 130 interrupted.
    """
    try:
        from logstream.cli import output
        from logstream_kubectl.app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"typer", "rich", "click", "httpx", "msgspec"}:
            raise
        sys.stderr.write(
            f"logstream: the plugin needs the package {error.name}; install it with: "
            "pip install 'logstream-platform[cli]'\n"
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
