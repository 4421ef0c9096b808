"""`logstream tail`: logs as they arrive, over Server-Sent Events; a broken connection is taken up where it broke."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from logstream.cli import output
from logstream.cli.asking import Params, Stream, Words, question
from logstream.cli.client import Api, refusal, unreachable
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, Levels, Output, Services, api_target
from logstream.cli.sse import Parser

if TYPE_CHECKING:
    from logstream.cli.config import Target

SILENCE = 60.0
"""Seconds without a byte after which the connection counts as dead; the server sends heartbeats far more often."""
LONGEST_PAUSE = 10.0


def tail(
    words: Words = None,
    service: Services = None,
    level: Levels = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Go on behind this cursor (see --output json).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after this many logs.")] = None,
    form: Output = Format.TABLE,
    stream: Stream = None,
    context: ContextName = None,
    api_key: ApiKey = None,
    api_url: ApiUrl = None,
) -> None:
    """Show logs that match as they arrive.

    Ctrl-C ends it. What a slow reader missed is shown as a gap, never hidden.

    With --output json each line is a frame of the server (records, gap, heartbeat, each with its cursor);
    with ndjson each line is a log.

    Examples:

      logstream tail

      logstream tail 'service:payment level>=error'

      logstream tail --service payment --level error

      logstream tail refused -o ndjson | jq .message
    """
    target = api_target(context, api_key, api_url)
    shown = 0
    colour, breaks = output.colourful(), output.in_terminal()
    for frame in frames(target, question(words, service, level, stream), cursor=cursor, say=output.say):
        kind = frame.get("type")
        if form is Format.JSON:
            output.write(output.to_json(frame), flush=True)
        elif kind == "gap":
            _gap(frame, colour=colour and form is Format.TABLE)
        if kind == "records":
            for entry in frame.get("records") or []:
                if form is not Format.JSON:
                    as_line = form is Format.TABLE
                    line = output.log_line(entry, colour=colour, breaks=breaks) if as_line else output.to_json(entry)
                    output.write(line, flush=True)
                shown += 1
                if limit is not None and shown >= limit:
                    return


def _gap(frame: Mapping[str, Any], *, colour: bool) -> None:
    dropped = frame.get("dropped")
    many = "an unknown number of" if dropped is None else f"{dropped:,}"
    text = f"── {many} logs are missing here: this reader was too slow or away for too long ──"
    if colour:
        output.write(f"\033[1;33m{text}\033[0m", flush=True)
    else:
        # Not among the results, where a program would take it for a log.
        output.say(text)


def frames(
    target: "Target",
    params: Params,
    *,
    cursor: str | None,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """The server's frames, for ever: reconnects by itself with the last cursor.

    Raises Failure when the server refuses for good (no key, no right, a bad filter) or was never there.
    """
    import httpx

    pause, connected_once, broken = 0.5, False, False
    with Api(target) as api:
        while True:
            asked = {**params, **({"cursor": cursor} if cursor else {})}
            wait = 0.0
            try:
                with api.http.stream(
                    "GET",
                    "/api/v1/tail",
                    params=asked,
                    headers={**api.headers, "Accept": "text/event-stream", "Cache-Control": "no-store"},
                    timeout=httpx.Timeout(10.0, read=SILENCE),
                ) as response:
                    if not response.is_success:
                        response.read()
                        refused = refusal(response, "API")
                        if response.status_code not in {429, 502, 503, 504}:
                            raise refused
                        problem = refused.message
                        wait = float(response.headers.get("Retry-After", "1"))
                    else:
                        problem = "the connection was closed"
                        if broken:
                            say("connected again")
                        connected_once, broken, pause = True, False, 0.5
                        for frame in _events(response):
                            cursor = frame.get("cursor") or cursor
                            yield frame
            except httpx.TransportError as error:
                if not connected_once:
                    raise Failure(unreachable("API", target.api_url, error)) from error
                problem = f"the connection broke ({str(error) or type(error).__name__})"
            if not broken:
                say(f"{problem}; connecting again")
                broken = True
            sleep(max(wait, pause * random.uniform(0.5, 1.0)))
            pause = min(LONGEST_PAUSE, pause * 2)


def _events(response: Any) -> Iterator[dict[str, Any]]:
    parser = Parser()
    for chunk in response.iter_bytes():
        for event in parser.feed(chunk):
            try:
                frame = msgspec.json.decode(event.data)
            except msgspec.DecodeError as error:
                raise Failure("the server sent an event that is not JSON; is this the LogStream API?") from error
            if isinstance(frame, dict):
                yield frame
