"""`kubectl logstream status`: how LogStreams are, and what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream.cli.failure import Failure
from logstream_kubectl import ages, keys, view
from logstream_kubectl.advice import advise
from logstream_kubectl.kubectl import Kubectl
from logstream_kubectl.options import Everywhere, Form, Output, kubectl
from logstream_kubectl.resources import (
    API_KEY,
    LOGSTREAM,
    Condition,
    Object,
    condition,
    conditions,
    data_plane,
    is_ready,
    key_stream,
    moment,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from logstream_kubectl.view import Cell

COMPONENTS = ("collector", "processor", "api")
COLUMNS = ("name", "ready", "reason", "lag", "oldest", "accepted", "stored", "dead", "data plane", "api", "age")


def status(
    context: typer.Context,
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="Default: a table of all.")] = None,
    everywhere: Everywhere = False,
    check: Annotated[bool, typer.Option("--check", help="Status 1 unless all that is shown is ready.")] = False,
    form: Output = Form.TABLE,
) -> None:
    """Show how LogStreams are; of one, everything and what to do.

    With -o json or yaml: the resources, of one LogStream with its keys.

    Examples:

      kubectl logstream status

      kubectl logstream status shop -n team-a

      kubectl logstream status -A -o json

      kubectl logstream status shop --check && ./deploy
    """
    ask = kubectl(context)
    if stream is None:
        found = ask.all(LOGSTREAM, everywhere=everywhere)
        _show_all(ask, found, everywhere, form)
    elif everywhere:
        raise Failure("give a STREAM or -A, not both", status=2)
    else:
        found = [ask.get(LOGSTREAM, stream)]
        own = [key for key in ask.all(API_KEY) if key_stream(key) == stream]
        if form is Form.TABLE:
            _show(ask, found[0], own, datetime.now(UTC))
        else:
            view.show([*found, *own], form)
    if check and not all(map(is_ready, found)):
        raise typer.Exit(1)


def _show_all(ask: Kubectl, found: Sequence[Object], everywhere: bool, form: Form) -> None:
    if form is not Form.TABLE:
        view.show(found, form)
    elif found:
        now = datetime.now(UTC)
        space = ("namespace",) if everywhere else ()
        view.table((*space, *COLUMNS), ([*([namespace_of(one)] if space else []), *row(one, now)] for one in found))
    else:
        where = "the cluster" if everywhere else f"namespace {ask.namespace()}"
        output.say(f"there are no LogStreams in {where}" + ("" if everywhere else "; see all namespaces with -A"))


def row(stream: Object, now: datetime) -> list[Cell]:
    """As COLUMNS has it."""
    status, ready = status_of(stream), condition(stream, "Ready")
    paused = bool(spec_of(stream).get("paused"))
    oldest = status.get("oldestUnsavedSeconds")
    dead = status.get("deadLettered")
    return [
        name_of(stream),
        _ready(ready),
        ("Paused", view.WARN) if paused else ready.reason if ready is not None else "NotSeenYet",
        _count(status.get("lag")),
        "-" if oldest is None else ages.span(float(oldest)),
        _count(status.get("accepted")),
        _count(status.get("stored")),
        (_count(dead), view.WARN if dead else ""),
        data_plane(stream) if data_plane(stream) != name_of(stream) else "-",
        str((status.get("endpoints") or {}).get("api") or "-"),
        ages.ago(moment(stream["metadata"].get("creationTimestamp")), now),
    ]


def _ready(ready: Condition | None) -> tuple[str, str]:
    if ready is None or ready.status == "Unknown":
        return ("unknown", view.WARN)
    return ("yes", view.GOOD) if ready.status == "True" else ("no", view.BAD)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _show(ask: Kubectl, stream: Object, own: Sequence[Object], now: datetime) -> None:
    _head(stream, now)
    _heading("Conditions")
    rows = [_condition(found, now) for found in conditions(stream)]
    if rows:
        view.table(("condition", "status", "reason", "since", "message"), rows, indent=2)
    else:
        output.write("  none yet")
    _heading("Pods" if data_plane(stream) == name_of(stream) else f"Pods: those of {data_plane(stream)}")
    _pods(stream)
    _heading("Logs")
    _logs(stream)
    _heading("Keys")
    if own:
        view.table([name for name in keys.COLUMNS if name != "stream"], (_key(key, now) for key in own), indent=2)
    else:
        output.write("  none")
    steps = advise(stream, own, _hint(ask, stream), now)
    if steps:
        _heading("What to do")
        for step in steps:
            output.write(f"  • {output.clean(step)}")


def _head(stream: Object, now: datetime) -> None:
    ready, status = condition(stream, "Ready"), status_of(stream)
    word, style = _ready(ready)
    said = {"yes": "ready", "no": "not ready", "unknown": "not seen by the operator yet"}[word]
    reason = f": {ready.reason}" if ready is not None and word == "no" else ""
    paused = f", {view.paint('paused', view.WARN)}" if spec_of(stream).get("paused") else ""
    title = view.paint(f"LogStream {namespace_of(stream)}/{name_of(stream)}", view.BOLD)
    output.write(f"{title}  {view.paint(said + reason, style)}{paused}")
    ends = status.get("endpoints") or {}
    facts = {
        "age": ages.ago(moment(stream["metadata"].get("creationTimestamp")), now),
        "ingest": _outside(stream, "/ingest") or str(ends.get("ingest") or ""),
        "api": _outside(stream, "") or str(ends.get("api") or ""),
        "in cluster": " ".join(str(end) for end in ends.values()) if _outside(stream, "") else "",
        "stream id": str(status.get("streamId") or ""),
        "topic": str(status.get("topic") or ""),
        "database": str(status.get("database") or ""),
        "retention": f"{(spec_of(stream).get('retention') or {}).get('days', 30)} days",
    }
    for name, value in facts.items():
        if value:
            output.write(f"  {name:<11} {output.clean(value)}")


def _outside(stream: Object, path: str) -> str:
    """Its address outside the cluster, where it has an Ingress."""
    wanted = spec_of(stream).get("ingress") or {}
    scheme = "https" if wanted.get("tls") else "http"
    return f"{scheme}://{wanted['host']}{path}" if wanted.get("host") else ""


def _heading(text: str) -> None:
    output.write("")
    output.write(view.paint(text, view.BOLD))


def _condition(found: Condition, now: datetime) -> list[Cell]:
    style = view.GOOD if found.is_well else view.WARN if found.type in {"Progressing", "Paused"} else view.BAD
    return [found.type, (found.status, style), found.reason, ages.ago(found.since, now), found.message]


def _pods(stream: Object) -> None:
    status = status_of(stream)
    rows: list[list[Cell]] = []
    for name in COMPONENTS:
        found = status.get(name) or {}
        if found:
            ready, there = int(found.get("readyReplicas") or 0), int(found.get("replicas") or 0)
            style = view.GOOD if ready and ready == there else view.WARN if ready else view.BAD
            rows.append([name, (f"{ready}/{there}", style)])
    if rows:
        view.table(("component", "ready"), rows, indent=2)
    else:
        shared = f"  kubectl logstream status {data_plane(stream)} shows them"
        output.write(shared if data_plane(stream) != name_of(stream) else "  none yet")


def _logs(stream: Object) -> None:
    status = status_of(stream)
    oldest, use = status.get("oldestUnsavedSeconds"), status.get("quotaUse") or {}
    facts = {
        "accepted": _count(status.get("accepted")),
        "stored": _count(status.get("stored")),
        "refused by ClickHouse": _count(status.get("deadLettered")),
        "not yet stored": _count(status.get("lag")),
        "oldest of those": "-" if oldest is None else ages.span(float(oldest)),
        "quota, records": f"{use['recordsPercent']:.0f} %" if use.get("recordsPercent") is not None else "-",
        "quota, bytes": f"{use['bytesPercent']:.0f} %" if use.get("bytesPercent") is not None else "-",
    }
    told = {name: value for name, value in facts.items() if value != "-"}
    for name, value in told.items():
        output.write(f"  {name:<22} {value:>14}")
    if not told:
        output.write("  nothing known yet")


def _key(key: Object, now: datetime) -> list[Cell]:
    return [cell for name, cell in zip(keys.COLUMNS, keys.row(key, now), strict=True) if name != "stream"]


def _hint(ask: Kubectl, stream: Object) -> Any:
    """Commands work from anywhere: with the namespace, unless it is the context's own."""
    return ask.hint if "namespace" in ask.flags else Kubectl({"namespace": namespace_of(stream)}).hint
