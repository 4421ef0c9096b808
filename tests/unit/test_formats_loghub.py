"""Real logs of seven programs, against the fields that were labelled beside them (Loghub)."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from tests.support.loghub import LOGHUB

from logstream.formats import Format, Parsed, Reading, detect, events
from logstream.record import LEVEL_ALIASES

NOW = datetime(2026, 3, 1, tzinfo=UTC)
Row = dict[str, str]


def at(text: str, form: str) -> int:
    moment = datetime.strptime(text, form).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def latest(text: str) -> int:
    """Dates without a year: the latest that is not after NOW."""
    for year in (2026, 2025):
        if (found := at(f"{year} {text}", "%Y %b %d %H:%M:%S")) <= NOW.timestamp() * 10**9:
            return found
    raise AssertionError(text)


# The labels name some columns wrongly: Linux' Level and OpenSSH's Component are the host.
Times = Callable[[Row], int]
FILES: dict[str, tuple[Times, str | None, dict[str, str]]] = {
    # time, column of the level, metadata key to column
    "Apache": (lambda r: at(r["Time"], "%a %b %d %H:%M:%S %Y"), "Level", {}),
    "HDFS": (
        lambda r: at(r["Date"] + r["Time"], "%y%m%d%H%M%S"), "Level", {"component": "Component", "pid": "Pid"}
    ),
    "Hadoop": (
        lambda r: at(r["Date"] + r["Time"], "%Y-%m-%d%H:%M:%S,%f"), "Level",
        {"component": "Component", "thread": "Process"},
    ),
    "Linux": (
        lambda r: latest(f"{r['Month']} {r['Date']} {r['Time']}"), None,
        {"component": "Component", "host": "Level", "pid": "PID"},
    ),
    "OpenSSH": (
        lambda r: latest(f"{r['Date']} {r['Day']} {r['Time']}"), None, {"host": "Component", "pid": "Pid"}
    ),
    "OpenStack": (
        lambda r: at(r["Date"] + r["Time"], "%Y-%m-%d%H:%M:%S.%f"), "Level",
        {"component": "Component", "pid": "Pid", "context": "ADDR"},
    ),
    "Zookeeper": (
        lambda r: at(r["Date"] + r["Time"], "%Y-%m-%d%H:%M:%S,%f"), "Level",
        {"component": "Component", "thread": "Node", "line": "Id"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_line_as_labelled(name: str) -> None:
    log = LOGHUB / name / f"{name}_2k.log"
    if not log.exists():
        pytest.skip(f"the log {log} is not here: set LOGSTREAM_LOGHUB to the folder with Loghub's samples")
    time, level, columns = FILES[name]
    with (LOGHUB / name / f"{name}_2k.log_structured.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = log.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    form: Format = detect(lines, Reading(int(NOW.timestamp()) * 10**9))
    found: list[Parsed] = list(events((line for line in lines if line), form))
    assert form.matched == 1.0
    assert len(found) == len(rows) == 2000
    for parsed, row in zip(found, rows, strict=True):
        assert parsed.message == row["Content"].rstrip()
        assert parsed.timestamp == time(row)
        assert parsed.level == (None if level is None else LEVEL_ALIASES[row[level].lower()])
        assert {k: parsed.metadata.get(k, "") for k in columns} == {k: row[column] for k, column in columns.items()}
    if name == "OpenSSH":
        assert {p.service for p in found} == {"sshd"}
