"""`kubectl logstream keys`: list, rotate, revoke. The keys themselves are in Secrets, and never shown."""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import typer

from logstream.cli import output
from logstream.cli.failure import Failure
from logstream_kubectl import ages, view
from logstream_kubectl.kubectl import Kubectl
from logstream_kubectl.options import Everywhere, Form, Output, kubectl
from logstream_kubectl.resources import (
    API_KEY,
    LOGSTREAM,
    ROTATE,
    Object,
    condition,
    is_ready,
    is_usable,
    key_stream,
    moment,
    name_of,
    namespace_of,
    scopes,
    secret_name,
    spec_of,
    status_of,
)
from logstream_kubectl.view import Cell

keys = typer.Typer(
    no_args_is_help=True,
    help="Keys of LogStreams: list, rotate, revoke.\n\nExample: kubectl logstream keys list shop",
)
_Names = Annotated[list[str], typer.Argument(metavar="KEY", help="Names of LogStreamAPIKeys.")]
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]
_Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for each key.")]
_POLL = 0.5
COLUMNS = ("name", "stream", "ready", "reason", "key", "scopes", "expires", "rotated", "previous", "secret")


@keys.command("list")
def list_keys(
    context: typer.Context,
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="Only of this LogStream.")] = None,
    everywhere: Everywhere = False,
    form: Output = Form.TABLE,
) -> None:
    """List keys: whether they work, what they may do, until when.

    Examples:

      kubectl logstream keys list

      kubectl logstream keys list shop -n team-a

      kubectl logstream keys list -A -o json
    """
    ask = kubectl(context)
    if stream is not None and everywhere:
        raise Failure("give a STREAM or -A, not both", status=2)
    if stream is not None:
        # A name that is mistyped is told apart from a stream without keys.
        ask.get(LOGSTREAM, stream)
    found = [key for key in ask.all(API_KEY, everywhere=everywhere) if stream in (None, key_stream(key))]
    if form is not Form.TABLE:
        view.show(found, form)
    elif found:
        space = ("namespace",) if everywhere else ()
        now = datetime.now(UTC)
        view.table((*space, *COLUMNS), ([*([namespace_of(key)] if space else []), *row(key, now)] for key in found))
    else:
        output.say("there are no keys" + (f" of LogStream {stream}" if stream is not None else ""))


def row(key: Object, now: datetime) -> list[Cell]:
    """As COLUMNS has it."""
    status, ready = status_of(key), condition(key, "Ready")
    end = moment(status.get("expiresAt") or spec_of(key).get("expiresAt"))
    previous = str(status.get("previousKeyId") or "")
    if previous:
        previous += f" (ends {ages.until(moment(status.get('previousExpiresAt')), now)})"
    well = ready is not None and ready.status == "True"
    return [
        name_of(key),
        key_stream(key),
        ("yes", view.GOOD) if well else ("no", view.BAD),
        # Without a status the operator has not come to it yet.
        ready.reason if ready is not None else "NotSeenYet",
        str(status.get("keyId") or "-"),
        ",".join(sorted(scopes(key))),
        (ages.until(end, now), ages.colour(end, now)),
        ages.ago(moment(status.get("rotatedAt")), now),
        previous or "-",
        secret_name(key),
    ]


@keys.command("rotate")
def rotate(context: typer.Context, names: _Names, wait: _Wait = True, timeout: _Timeout = 120.0) -> None:
    """Have a new key made; the old one works until the overlap is over.

    Programs find it in the same Secret. How long the old one works is spec.rotation.overlap; an hour where that is not
    given.

    Examples:

      kubectl logstream keys rotate shop-sender

      kubectl logstream keys rotate shop-sender shop-reader -n team-a --no-wait
    """
    ask = kubectl(context)
    for key in [ask.get(API_KEY, name) for name in names]:
        name, now = name_of(key), datetime.now(UTC)
        if not is_usable(key, now):
            why = "is revoked" if spec_of(key).get("revoked") else "has expired"
            raise Failure(f"LogStreamAPIKey {name} {why} and gets no new key; make another LogStreamAPIKey")
        before = str(status_of(key).get("keyId") or "")
        ask.patch(API_KEY, name, {"metadata": {"annotations": {ROTATE: _asked(key, now)}}})
        if not wait:
            output.write(f"LogStreamAPIKey {name}: a new key is asked for")
            continue
        done = _wait_for(ask, name, partial(_is_renewed, before), timeout)
        status = status_of(done)
        output.write(f"LogStreamAPIKey {name}: key {status['keyId']} is in Secret {secret_name(done)}")
        if status.get("previousKeyId"):
            end = moment(status.get("previousExpiresAt"))
            output.say(
                f"key {status['previousKeyId']} works beside it and ends {ages.until(end, datetime.now(UTC))}; "
                "until then programs have to read the Secret again"
            )


def _is_renewed(before: str, key: Object) -> bool:
    return is_ready(key) and status_of(key).get("keyId") not in (None, before)


def _asked(key: Object, now: datetime) -> str:
    """The moment before which a key counts as old: now, and later than the present one by any clock."""
    made = moment(status_of(key).get("rotatedAt"))
    when = now if made is None else max(now, made + timedelta(seconds=1))
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@keys.command("revoke")
def revoke(
    context: typer.Context,
    names: _Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: _Wait = True,
    timeout: _Timeout = 120.0,
) -> None:
    """Have a key work no more, within seconds and for good.

    Without an overlap: programs that use it are refused. It cannot be taken back.

    Examples:

      kubectl logstream keys revoke shop-loadtest

      kubectl logstream keys revoke shop-loadtest -n team-a --yes
    """
    ask = kubectl(context)
    found = [ask.get(API_KEY, name) for name in names]
    if not yes:
        _confirm(found)
    for key in found:
        name = name_of(key)
        if not spec_of(key).get("revoked"):
            ask.patch(API_KEY, name, {"spec": {"revoked": True}})
        if wait:
            _wait_for(ask, name, _is_revoked, timeout)
            output.write(f"LogStreamAPIKey {name} is revoked")
        else:
            output.write(f"LogStreamAPIKey {name}: its end is asked for")


def _is_revoked(key: Object) -> bool:
    ready = condition(key, "Ready")
    return ready is not None and ready.status == "False" and ready.reason == "Revoked"


def _confirm(found: Sequence[Object]) -> None:
    """Raises Failure where nobody can be asked, Exit."""
    if not sys.stdin.isatty():
        raise Failure("nobody can be asked here: say --yes to revoke for good")
    said = ", ".join(f"{name_of(key)} (of {key_stream(key)}, may {','.join(sorted(scopes(key)))})" for key in found)
    if not typer.confirm(f"revoke {said}, at once and for good?", err=True):
        raise typer.Exit(130)


def _wait_for(ask: Kubectl, name: str, is_done: Callable[[Object], bool], timeout: float) -> Object:
    """The key, once it is so. timeout: seconds. Raises Failure with what the operator says about it."""
    deadline = time.monotonic() + timeout
    while True:
        key = ask.get(API_KEY, name)
        if is_done(key):
            return key
        if time.monotonic() > deadline:
            ready = condition(key, "Ready")
            said = f"{ready.reason}: {ready.message}" if ready is not None and ready.message else "it says nothing"
            raise Failure(
                f"LogStreamAPIKey {name}: the operator has not done it in {timeout:g} s ({said}); it is asked for all "
                f"the same. Is it running? kubectl get deployments -A -l app.kubernetes.io/name=logstream-operator"
            )
        time.sleep(_POLL)
