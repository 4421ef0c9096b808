"""`logstream doctor`: what is wrong, and what to do about each."""

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from logstream import __version__
from logstream.cli import config, output
from logstream.cli.client import open_http, sentence, unreachable
from logstream.cli.config import Target
from logstream.cli.failure import Failure
from logstream.cli.options import ApiKey, ApiUrl, ContextName, Format, IngestUrl, Output

if TYPE_CHECKING:
    import httpx

MAX_CLOCK_DIFFERENCE = 5.0
LOW_DISK_BYTES = 2 * 1024**3
"""Twice the floor below which ingestion is refused."""


@dataclass(frozen=True, slots=True)
class Check:
    """ok: None is a remark that asks for nothing."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def doctor(
    form: Output = Format.TABLE,
    context: ContextName = None,
    api_key: ApiKey = None,
    ingest_url: IngestUrl = None,
    api_url: ApiUrl = None,
) -> None:
    """Look for what is wrong, and say what to do about it.

    Checks configuration, addresses, key, clock, disk and versions.

    Ends with status 1 when something is wrong.

    Examples:

      logstream doctor

      logstream doctor --context prod -o json
    """
    checks: list[Check] = []
    try:
        for check in _checks(lambda: config.resolve(
            context=context, api_key=api_key, ingest_url=ingest_url, api_url=api_url
        )):  # fmt: skip
            checks.append(check)
            if form is Format.TABLE:
                _print(check)
    except Failure as failure:
        checks.append(Check("configuration", False, failure.message))
        if form is Format.TABLE:
            _print(checks[-1])
    if form is not Format.TABLE:
        output.show(
            [{"name": c.name, "ok": c.ok, "found": c.found, "advice": c.advice} for c in checks], (), form, empty=""
        )
    if any(c.ok is False for c in checks):
        raise typer.Exit(1)


def _print(check: Check) -> None:
    mark, paint = {True: ("ok", "32"), False: ("PROBLEM", "1;31"), None: ("note", "33")}[check.ok]
    shown = f"\033[{paint}m{mark:8}\033[0m" if output.colourful() else f"{mark:8}"
    output.write(f"{shown}{check.name}: {output.clean(check.found)}")
    if check.advice:
        output.write(f"        → {output.clean(check.advice)}")


def _checks(resolve: Callable[[], Target]) -> Iterator[Check]:
    yield _versions()
    yield _configuration()
    target = resolve()
    yield from _collector(target)
    yield from _api(target)
    yield _disk(Path.cwd())


def _versions() -> Check:
    names = ("httpx", "msgspec", "typer", "rich")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    server = "with" if util.find_spec("chdb") is not None else "without"
    python = ".".join(map(str, sys.version_info[:3]))
    return Check("versions", True, f"logstream {__version__} ({server} the server), Python {python}, {found}")


def _configuration() -> Check:
    where = config.path()
    if not where.exists():
        return Check("configuration", None, f"there is no {where}", "log in to make one: logstream login")
    found = config.load()
    mode = stat.S_IMODE(where.stat().st_mode)
    if mode & 0o077:
        return Check(
            "configuration", False, f"{where} can be read by others (mode {mode:o})", f"run: chmod 600 {where}"
        )
    if found.current and found.current not in found.contexts:
        return Check(
            "configuration", False, f"the current context '{found.current}' is not in {where}",
            "choose another: logstream context use NAME",
        )  # fmt: skip
    return Check("configuration", True, f"{where}, context '{found.current or '(none)'}'")


def _get(url: str, path: str, headers: dict[str, str] | None = None) -> "httpx.Response":
    with open_http(url, timeout=10.0) as http:
        return http.get(path, headers=headers)


def _collector(target: Target) -> Iterator[Check]:
    import httpx

    try:
        response = _get(target.ingest_url, "/health")
    except httpx.TransportError as error:
        reason, _, advice = unreachable("collector", target.ingest_url, error).partition("; ")
        yield Check("collector", False, reason, advice)
        return
    if not response.is_success:
        yield Check("collector", False, f"{target.ingest_url} answers {response.status_code}", _advice(response))
        return
    yield Check("collector", True, f"{target.ingest_url} answers")
    yield _clock(response)


def _api(target: Target) -> Iterator[Check]:
    import httpx

    try:
        response = _get(target.api_url, "/health")
    except httpx.TransportError as error:
        reason, _, advice = unreachable("API", target.api_url, error).partition("; ")
        yield Check("API", False, reason, advice)
        return
    if not response.is_success:
        yield Check("API", False, f"{target.api_url} answers {response.status_code}", _advice(response))
    else:
        yield Check("API", True, f"{target.api_url} answers")
    for name, credential in (("key", target.api_key), ("login", target.session)):
        if credential:
            yield _credential(target, name, credential)
    if not target.api_key and not target.session:
        yield Check("key", False, "there is no key and no login", "log in (logstream login) or set LOGSTREAM_API_KEY")


def _credential(target: Target, name: str, credential: str) -> Check:
    import httpx

    try:
        response = _get(target.api_url, "/api/v1/me", {"Authorization": f"Bearer {credential}"})
    except httpx.TransportError as error:
        return Check(name, False, str(error), "try again")
    if not response.is_success:
        reason, _, advice = sentence(response, "API").partition("; ")
        return Check(name, False, reason, advice)
    me = response.json()
    scopes = me["scopes"]
    found = f"{me['kind']} '{me['name']}' may: {', '.join(scopes)}"
    if name == "key" and not {"ingest", "read"} <= set(scopes):
        missing = ", ".join(s for s in ("ingest", "read") if s not in scopes)
        return Check(name, None, f"{found} (not: {missing})", "make another one if you need to: logstream keys create")
    return Check(name, True, found)


def _clock(response: "httpx.Response") -> Check:
    """From the Date header, or the `time` of the answer; both are whole seconds at worst."""
    there: float | None = None
    try:
        there = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return Check("clock", None, "the collector does not tell its time")
    difference = there - time.time()
    if abs(difference) > MAX_CLOCK_DIFFERENCE:
        return Check(
            "clock", False, f"the server's clock differs by {difference:+.0f} s",
            "set both clocks (NTP): times without a zone and --since depend on them",
        )  # fmt: skip
    return Check("clock", True, "agrees with the server's to a few seconds")


def _disk(folder: Path) -> Check:
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_frsize
    found = f"{size / 1024**3:.1f} GiB free on the disk of {folder}"
    if size < LOW_DISK_BYTES:
        return Check("disk", False, found, "free some space: below 1 GiB a platform here refuses logs")
    return Check("disk", True, found)


def _advice(response: "httpx.Response") -> str:
    return sentence(response, "server").partition("; ")[2] or response.text.strip()[:200]
