"""`kubectl logstream top`: what comes in and is stored a second, by LogStream."""

import time
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from logstream.cli import output
from logstream_kubectl import ages, view
from logstream_kubectl.options import Everywhere, Form, Output, kubectl
from logstream_kubectl.rates import COUNTS, Rates
from logstream_kubectl.resources import LOGSTREAM, Object, is_ready, name_of, namespace_of, status_of
from logstream_kubectl.view import Cell

COLUMNS = ("namespace", "stream", "ready", "accepted/s", "stored/s", "dead/s", "lag", "oldest", "quota")
Seen = dict[str, Rates]
"""By uid: another LogStream of the same name begins anew."""


def top(
    context: typer.Context,
    *,
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="Only this one.")] = None,
    everywhere: Everywhere = False,
    interval: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between two looks.")] = 5.0,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after this many looks.")] = None,
    form: Output = Form.TABLE,
) -> None:
    """Show what comes in a second, the busiest first.

    Refreshed until Ctrl-C. From the counts that the operator writes into the status: a rate is there once they have
    changed twice. With -o json or yaml each look is one document.

    Examples:

      kubectl logstream top

      kubectl logstream top -A --interval 10

      kubectl logstream top shop -n team-a --count 12 -o json
    """
    ask = kubectl(context)
    seen: Seen = {}

    def look() -> list[dict[str, Any]]:
        found = ask.all(LOGSTREAM, everywhere=everywhere) if stream is None else [ask.get(LOGSTREAM, stream)]
        return measure(found, seen, time.monotonic())

    looks, screen = 0, Screen(form)
    while True:
        screen.draw(look())
        looks += 1
        if count is not None and looks >= count:
            return
        time.sleep(interval)


def measure(found: Sequence[Object], seen: Seen, now: float) -> list[dict[str, Any]]:
    """A row for each LogStream, the busiest first. Rates are None while they are unknown."""
    there = {str(one["metadata"].get("uid")): one for one in found}
    for uid in set(seen) - set(there):
        del seen[uid]
    rows = []
    for uid, one in there.items():
        rates, status = seen.setdefault(uid, Rates()), status_of(one)
        rates.observe(now, status)
        known = rates.at(now)
        use = [part for part in (status.get("quotaUse") or {}).values() if isinstance(part, int | float)]
        rows.append({
            "namespace": namespace_of(one), "stream": name_of(one), "ready": is_ready(one),
            **{f"{name}PerSecond": None if known is None else known[index] for index, name in enumerate(COUNTS)},
            "lag": status.get("lag"), "oldestUnsavedSeconds": status.get("oldestUnsavedSeconds"),
            "quotaPercent": max(use, default=None),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (-(row["acceptedPerSecond"] or 0), row["namespace"], row["stream"]))


def cells(row: dict[str, Any]) -> list[Cell]:
    """As COLUMNS has it."""
    rates = [row[f"{name}PerSecond"] for name in COUNTS]
    lag, oldest, quota = row["lag"], row["oldestUnsavedSeconds"], row["quotaPercent"]
    return [
        row["namespace"],
        row["stream"],
        ("yes", view.GOOD) if row["ready"] else ("no", view.BAD),
        *("…" if rate is None else f"{rate:,.1f}" for rate in rates[:2]),
        ("…" if rates[2] is None else f"{rates[2]:,.1f}", view.BAD if rates[2] else ""),
        "-" if lag is None else f"{lag:,}",
        "-" if oldest is None else ages.span(float(oldest)),
        "-" if quota is None else (f"{quota:.0f} %", view.BAD if quota >= 100 else view.WARN if quota >= 80 else ""),
    ]


class Screen:
    """Draws in place where a person looks, else one table behind the other."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._live = form is Form.TABLE and output.in_terminal()
        self._drawn = 0

    def draw(self, rows: list[dict[str, Any]]) -> None:
        if self._form is not Form.TABLE:
            view.dump({"streams": rows}, self._form)
            return
        lines = view.lines(COLUMNS, map(cells, rows)) if rows else ["there are no LogStreams here"]
        if self._live:
            # One line is the cursor's; what is above the screen cannot be drawn anew.
            most = max(2, get_terminal_size((100, 24)).lines - 1)
            if len(lines) > most:
                lines = [*lines[: most - 1], f"… {len(lines) - most + 1} more; see one with: top STREAM"]
            # Up to where the last one began, and nothing of it left.
            up = f"\033[{self._drawn}F" if self._drawn else ""
            output.write(f"{up}\033[J" + "\n".join(lines), flush=True)
            self._drawn = len(lines)
        else:
            output.write("\n".join(lines), flush=True)
