"""The command line as a whole."""

import sys
from typing import Annotated

import typer

from logstream import __version__
from logstream.cli import (
    account,
    analysis,
    around,
    deadletters,
    demo,
    doctor,
    explain,
    export,
    full,
    histogram,
    import_,
    keys,
    ledger,
    login,
    output,
    processes,
    processor_replay,
    queries,
    query,
    redact,
    saved,
    search,
    send,
    server,
    streams,
    tail,
    users,
    verify,
)
from logstream.cli.failure import Failure

app = typer.Typer(
    name="logstream",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A log platform: send logs, search them, follow them.",
    epilog="Exit status: 0 done, 1 failure, 2 wrong usage. `logstream COMMAND --help` shows examples.",
)

app.command()(server.up)
app.command(name="up-full")(full.up_full)
app.command()(send.send)
app.command(name="import")(import_.import_)
app.command()(search.search)
app.command()(query.query)
app.command()(tail.tail)
app.command()(histogram.stats)
app.command()(histogram.histogram)
app.command()(analysis.patterns)
app.command()(analysis.facets)
app.command()(analysis.fields)
app.command()(around.around)
app.command()(export.export)
app.command()(explain.explain)
app.command()(redact.redact)
app.add_typer(queries.queries, name="queries")
app.command()(login.login)
app.command()(login.logout)
app.command()(account.signup)
app.command()(account.password)
app.command()(doctor.doctor)
app.command()(demo.demo)
app.command()(ledger.ledger)
app.command()(verify.verify)
app.add_typer(login.context, name="context")
app.add_typer(keys.keys, name="keys")
app.add_typer(users.users, name="users")
app.add_typer(streams.streams, name="streams")
app.add_typer(saved.saved, name="saved")
app.add_typer(deadletters.deadletters, name="deadletters")
app.command()(server.clickhouse)
app.command()(processes.collector)
app.add_typer(processor_replay.processor, name="processor")
app.command()(processes.api)


@app.command()
def version() -> None:
    """Print the version.

    Example: logstream version
    """
    output.write(f"logstream {__version__}")


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


def run(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status. Failures are told in one sentence."""
    try:
        result = app(args=arguments, standalone_mode=False)
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
        option = str(getattr(error, "option_name", ""))
        if type(error).__name__ == "NoSuchOption" and not option.startswith("--"):
            output.say("a query that begins with - goes behind --, as in: logstream search -- -debug")
        return int(error.exit_code)
    sys.stdout.flush()
    return result if isinstance(result, int) else 0
