"""`logstream facets`, `fields`, `patterns`: what the logs of a period are like."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.asking import From, Since, Stream, To, Words, nothing, question
from logstream.cli.bars import bar
from logstream.cli.client import rows_of
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Output, Services
from logstream.cli.output import clean, paint
from logstream.cli.reading import read, reader

_BAR = 20
_EXAMPLE = 240


def facets(
    words: Words = None,
    fields_: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            "-f",
            help="A field; may be repeated. Default: service, level and telling metadata keys.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="Values of each field.")] = 5,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show the most frequent values of fields.

    Examples:

      logstream facets 'level>=error' --since 24h

      logstream facets 'service:payment' --field region --field version -n 20
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    asked = {**params, "limit": limit, **({"fields": ",".join(fields_)} if fields_ else {})}
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/facets", asked)
    found = rows_of(answer, "facets")
    if form is not Format.TABLE:
        output.show(found, (), form, empty="")
    elif not answer["total"]:
        output.say(nothing(params))
    else:
        for line in facet_lines(found, answer["total"], width=output.width(), colour=output.colourful()):
            output.write(line)


def facet_lines(found: Sequence[Mapping[str, Any]], total: int, *, width: int, colour: bool) -> Iterator[str]:
    """Each field with its values, their counts and shares of `total` logs, as bars."""
    digits = len(f"{total:,}")
    room = min(
        max((len(clean(entry["value"])) for one in found for entry in one["values"]), default=1),
        max(10, width - digits - _BAR - 15),
    )
    for place, one in enumerate(found):
        if place:
            yield ""
        about = [f"{one['distinct']:,} {'value' if one['distinct'] == 1 else 'values'}"]
        if one["missing"]:
            about.append(f"{one['missing']:,} logs without it")
        if one["approximate"]:
            about.append("others may be more frequent")
        yield paint(clean(one["field"]), "1", colour=colour) + paint(f"  {', '.join(about)}", "2", colour=colour)
        for entry in one["values"]:
            value, share = clean(entry["value"]), entry["count"] / total
            value = value[: room - 1] + "…" if len(value) > room else value
            code = output.LEVELS.get(value, "36") if one["field"] == "level" else "36"
            drawn = paint(bar(share, _BAR), code, colour=colour)
            yield f"  {value:<{room}}  {entry['count']:>{digits},}  {percent(share):>7}  {drawn}"


def percent(share: float) -> str:
    """ "45.2 %", "< 0.1 %"."""
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def fields(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """List the fields that logs have.

    With the kind of their values, how many logs have them, how many different values there are, and some of those.

    Examples:

      logstream fields

      logstream fields 'service:payment' --since 24h
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/fields", params)
    found = rows_of(answer, "fields")
    if form is not Format.TABLE:
        output.show(found, (), form, empty="")
        return
    if not answer["lines"]:
        output.say(nothing(params))
        return
    rows = [{**one, "examples": "  ".join(map(_short, one["examples"]))} for one in found]
    output.show(rows, ("name", "kind", "count", "distinct", "examples"), form, empty="")
    if answer["sampled"]:
        output.say(f"this is about the newest {answer['lines']:,} logs of the period")
    if answer["truncated"]:
        output.say(f"there are more fields than these {len(found):,}; ask for fewer logs")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text[:39] + "…" if len(text) > 40 else text


def patterns(
    words: Words = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="At most this many.")] = 20,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With an example of each, and how to find its logs.")
    ] = False,
    service: Services = None,
    level: Levels = None,
    since: Since = None,
    start: From = None,
    end: To = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show which kinds of message there are.

    The change is that of the count against the period of the same length before; <*> stands for values.

    Examples:

      logstream patterns

      logstream patterns 'level>=error' --since 24h

      logstream patterns 'service:payment' --since 2d -v -n 5
    """
    params = question(words, service, level, stream, since=since, start=start, end=end)
    with reader(context, api_key, api_url) as api:
        answer = read(api, "/api/v1/patterns", {**params, "limit": limit})
    found = rows_of(answer, "patterns")
    if form is not Format.TABLE:
        output.show(found, (), form, empty="")
        return
    if not found:
        output.say(nothing(params))
        return
    width = output.width() if output.in_terminal() else None
    for line in pattern_lines(answer, width=width, verbose=verbose, colour=output.colourful()):
        output.write(line)
    output.say(_summary(answer))


def _summary(answer: Mapping[str, Any]) -> str:
    shown = len(answer["patterns"])
    said = f"{answer['found']:,} patterns in {answer['total']:,} logs"
    if shown < answer["found"]:
        said = f"{shown:,} of {said}; see more with --limit"
    if answer["rest"]:
        said += f"; {answer['rest']:,} logs are like no other"
    if answer["previous_total"]:
        return f"{said}; the period before had {answer['previous_total']:,} logs"
    return f"{said}; there is nothing to compare with in the period before"


def pattern_lines(answer: Mapping[str, Any], *, width: int | None, verbose: bool, colour: bool) -> Iterator[str]:
    """The patterns, folded to `width` cells; None: a line each."""
    found: Sequence[Mapping[str, Any]] = answer["patterns"]
    compared = bool(answer["previous_total"])
    digits = max(len("count"), *(len(f"{one['count']:,}") for one in found))
    head = f"{'count':>{digits}}    share  " + (f"{'change':>8}  " if compared else "")
    yield paint(head + "pattern", "1", colour=colour)
    indent = " " * len(head)
    for one in found:
        text, code = change(one)
        changed = f"{paint(f'{text:>8}', code, colour=colour)}  " if compared else ""
        first, *more = _folded(clean(one["template"]), None if width is None else width - len(head))
        gone = "2" if not one["count"] else ""
        counted = f"{one['count']:>{digits},}  {percent(one['share']):>7}  {changed}"
        yield counted + _template(first, gone, colour=colour)
        for line in more:
            yield indent + _template(line, gone, colour=colour)
        if verbose:
            for example in one["examples"][:1]:
                flat = clean(" ".join(example.split()))
                flat = flat[:_EXAMPLE] + "…" if len(flat) > _EXAMPLE else flat
                for line in _folded(f"e.g. {flat}", None if width is None else width - len(head)):
                    yield indent + paint(line, "2", colour=colour)
            if one["query"]:
                yield indent + paint(f"find: logstream search {shlex.quote(clean(one['query']))}", "2", colour=colour)


def change(pattern: Mapping[str, Any]) -> tuple[str, str]:
    """How often against the period before, and in which ANSI colour."""
    ratio = pattern["change"]
    if ratio is None:
        return "new", "1;35"
    if not pattern["count"]:
        return "gone", "2"
    if ratio >= 3:
        return f"×{output.number(ratio, 1 if ratio < 10 else 0)}", "1;33"
    return f"{100 * (ratio - 1):+.0f} %", "33" if ratio >= 1.5 else "36" if ratio <= 0.5 else ""


def _folded(text: str, room: int | None) -> list[str]:
    if room is None:
        return [text]
    return textwrap.wrap(text, max(room, 20), break_on_hyphens=False, drop_whitespace=True) or [""]


def _template(text: str, code: str, *, colour: bool) -> str:
    if code:
        return paint(text, code, colour=colour)
    return paint("<*>", "2", colour=colour).join(text.split("<*>"))
