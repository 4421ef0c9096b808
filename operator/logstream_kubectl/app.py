"""The plugin's command line as a whole."""

import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from logstream import __version__
from logstream.cli import output
from logstream.cli.failure import Failure
from logstream_kubectl import keys, pause, reading, status, top
from logstream_kubectl.options import equip

app = typer.Typer(
    name="kubectl logstream",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="LogStreams of this cluster: how they are, what they hold, who may use them.",
    epilog="Exit status: 0 done, 1 failure, 2 wrong usage. `kubectl logstream COMMAND --help` shows examples.",
)
app.command()(status.status)
app.command()(top.top)
app.add_typer(keys.keys, name="keys")
app.command()(pause.pause)
app.command()(pause.resume)


@app.command()
def version() -> None:
    """Print the version.

    Example: kubectl logstream version
    """
    output.write(f"kubectl-logstream {__version__}")


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def command() -> Any:
    """Typer's command with all others below it."""
    made: Any = typer.main.get_command(app)
    made.commands["tail"] = reading.tail_command()
    made.commands["search"] = reading.search_command()
    made.commands["deadletters"] = reading.deadletters_command()
    order = ("status", "top", "search", "tail", "deadletters", "keys", "pause", "resume", "version")
    made.commands = {name: made.commands[name] for name in order}
    return equip(made)


def run(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status. Failures are told in one sentence."""
    # What is forwarded ends with the command, also when it is ended.
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _end)
    try:
        result = command().main(args=arguments, prog_name="kubectl logstream", standalone_mode=False)
    except Failure as failure:
        output.complain(failure.message, failure.detail)
        return failure.status
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return 130
    except Exception as error:
        # Wrong usage: typer's own errors, whichever copy of click it brings.
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()
        return int(error.exit_code)
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
