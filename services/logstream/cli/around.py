"""`logstream around`: the logs before and after one."""

from typing import Annotated

import typer

from logstream.cli import output
from logstream.cli.asking import Params, Stream
from logstream.cli.client import rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Output
from logstream.cli.reading import read, reader


def around(
    place: Annotated[str, typer.Argument(metavar="ID", help="Of a log; `logstream search --ids` shows it.")],
    before: Annotated[int, typer.Option("--before", "-B", min=0, max=500, help="At most this many before it.")] = 20,
    after: Annotated[int, typer.Option("--after", "-A", min=0, max=500, help="At most this many after it.")] = 20,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", help="A field that must have the same value; may be repeated. Default: service; '' for all logs."
        ),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Show each log's id.")] = False,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show the logs before and after one.

    They are of the same service, or have the same value in every field that --by names. The oldest stands first.

    Examples:

      logstream search --ids '"timed out"' -n 1

      logstream around AWJ0lVQY6vSG…

      logstream around AWJ0lVQY6vSG… --by host -B 50 -A 0

      logstream around AWJ0lVQY6vSG… --by trace_id
    """
    params: Params = {"id": place.removeprefix("#"), "before": before, "after": after}
    if by is not None:
        params["by"] = ",".join(by)
    if stream:
        params["stream"] = stream
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/context", params)
    earlier, later = rows_of(answer, "before"), rows_of(answer, "after")
    logs = [*earlier, answer["line"], *later]
    if form is not Format.TABLE:
        output.show(logs, (), form, empty="")
        return
    colour, breaks = output.colourful(), output.in_terminal()
    for index, entry in enumerate(logs):
        mark = output.paint("▶ ", "1;33", colour=colour) if index == len(earlier) else "  "
        output.write(mark + output.log_line(entry, colour=colour, breaks=breaks, ids=ids))
    if len(logs) == 1:
        output.say("there are no others within seven days" + ("" if by == [""] else "; see all logs with --by ''"))
