"""`kubectl logstream pause` and `resume`."""

import typer

from logstream.cli import output
from logstream_kubectl.options import StreamName, kubectl
from logstream_kubectl.resources import LOGSTREAM, spec_of


def pause(context: typer.Context, stream: StreamName) -> None:
    """Have the operator change nothing of a LogStream.

    Its pods go on: logs are taken, stored and read. Where a tool keeps the resource as a repository has it, set
    spec.paused there: the tool would take this back.

    Example: kubectl logstream pause shop
    """
    _set(context, stream, True)


def resume(context: typer.Context, stream: StreamName) -> None:
    """Have the operator keep a paused LogStream again.

    What was changed by hand meanwhile is set back.

    Example: kubectl logstream resume shop
    """
    _set(context, stream, False)


def _set(context: typer.Context, stream: str, paused: bool) -> None:
    ask = kubectl(context)
    said = "paused" if paused else "resumed"
    if bool(spec_of(ask.get(LOGSTREAM, stream)).get("paused")) == paused:
        output.write(f"LogStream {stream} is {'paused already' if paused else 'not paused'}")
        return
    ask.patch(LOGSTREAM, stream, {"spec": {"paused": paused}})
    output.write(f"LogStream {stream} is {said}")
    if paused:
        output.say(f"the operator changes nothing of it until: {ask.hint(f'kubectl logstream resume {stream}')}")
