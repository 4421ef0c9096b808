"""`make bench-crash`: SIGKILL at random moments of ingest; nothing acknowledged is lost, nothing is doubled.

Half of the senders use an Idempotency-Key and repeat a request until it is answered 202. The others send each
request once: what was answered 202 must be there once, what was not answered at most once. Every stored row is
read back and compared with what was sent, by number and by a checksum of its text, and each row's identity in
the log must be its own. The ledger is asked all the time, and must agree with the table at the end.

The kills (seeded): the engine, the application, both, everything with the supervisor; a child within a second of
its start; the engine in the middle of merges; everything while it is being stopped; the engine after it hung. Now
and then nothing is killed: the platform is stopped as Ctrl-C does, and must end in order.

    --kills N    (100)      --seed N    (1)
"""

import argparse
import contextlib
import http.client
import json
import random
import signal
import tempfile
import threading
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import harness

_ROWS_PER_REQUEST = 50
_LARGE = 1_500
"""Rows of one request in twenty: a bus record of its own."""

Row = tuple[str, int, int]
"""Service, number, CRC-32 of the message."""


class Sender(threading.Thread):
    """Posts numbered rows and remembers what became of them. The platform may go away at any moment."""

    def __init__(self, name: str, seed: int, running: harness.Platform, *, keyed: bool) -> None:
        super().__init__(daemon=True, name=name)
        self.random = random.Random(f"{seed}/{name}")
        self.keyed = keyed
        self.running = running
        self.finish = threading.Event()
        self.acknowledged: list[Row] = []
        self.unknown: list[Row] = []
        """Sent without an answer, or with one that leaves it open (503)."""
        self.unexpected: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.longest_outage = 0.0

    def run(self) -> None:
        sequence = 0
        answered = time.monotonic()
        while not self.finish.is_set():
            rows, body = self._request(sequence)
            key = f"{self.name}-{sequence}" if self.keyed else None
            sequence += len(rows)
            while not (stored := self._post(key, body)) and self.keyed:
                time.sleep(0.05)
            (self.acknowledged if stored else self.unknown).extend(rows)
            if stored:
                self.longest_outage = max(self.longest_outage, time.monotonic() - answered)
                answered = time.monotonic()
            else:
                time.sleep(0.05)
            time.sleep(self.random.random() * 0.02)

    def _request(self, sequence: int) -> tuple[list[Row], bytes]:
        count = _LARGE if self.random.random() < 0.05 else self.random.randint(1, _ROWS_PER_REQUEST)
        rows: list[Row] = []
        lines: list[bytes] = []
        for number in range(sequence, sequence + count):
            message = f"row {number} of {self.name} {self.random.getrandbits(64):x}"
            rows.append((self.name, number, zlib.crc32(message.encode())))
            lines.append(
                json.dumps({"service": self.name, "message": message, "metadata": {"n": str(number)}}).encode()
            )
        return rows, b"\n".join(lines)

    def _post(self, key: str | None, body: bytes) -> bool:
        running = self.running
        headers = {"Authorization": f"Bearer {running.api_key}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        connection = http.client.HTTPConnection("127.0.0.1", running.collector_port, timeout=30)
        try:
            connection.request("POST", "/ingest", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except TimeoutError:
            self.unexpected.append("no answer within 30 s")
            return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        self.statuses[answer.status] += 1
        if answer.status not in {202, 429, 503}:
            self.unexpected.append(f"{answer.status} {text[:200]!r}")
        return answer.status == 202


class LedgerWatch(threading.Thread):
    """Asks for the ledger at random moments: the equation must hold in every answer."""

    def __init__(self, seed: int, running: harness.Platform) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(f"{seed}/ledger")
        self.running = running
        self.finish = threading.Event()
        self.answers = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        accepted = 0
        while not self.finish.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                ledger = ask_ledger(self.running)
                self.answers += 1
                total = ledger["total"]
                if not ledger["balanced"] or not is_balanced(total) or total["accepted"] < accepted:
                    self.wrong.append(json.dumps(total))
                accepted = max(accepted, total["accepted"])
            time.sleep(self.random.random() * 0.3)


def ask_ledger(running: harness.Platform) -> dict[str, Any]:
    """GET /api/v1/ledger. Raises OSError."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.api_port}/api/v1/ledger", headers={"Authorization": f"Bearer {running.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        ledger: dict[str, Any] = json.load(answer)
        return ledger


def is_balanced(counts: dict[str, int]) -> bool:
    """The ledger's equation."""
    ends = counts["stored"] + counts["deduplicated"] + counts["dead_lettered"] + counts["in_flight"]
    return counts["accepted"] == ends


class Killer:
    """One kind of kill per method; `platform` is the running one afterwards."""

    def __init__(self, running: harness.Platform, chance: random.Random, log: Path) -> None:
        self.platform = running
        self._chance = chance
        self._log = log
        self.disorderly: list[str] = []
        self._table = f"{running.database()}.logs"
        self.kinds: dict[str, tuple[int, Callable[[], object]]] = {
            "engine": (4, lambda: self._kill("engine")),
            "app": (4, lambda: self._kill("app")),
            "everything": (2, self._everything),
            "both": (2, self._both),
            "young engine": (2, lambda: self._young("engine")),
            "young app": (2, lambda: self._young("app")),
            "merging engine": (2, self._merging),
            "while stopping": (1, self._stopping),
            "stop": (1, self._stop),
            "hung engine": (2, self._hung),
        }

    def _find(self, role: str, seconds: float = 15) -> psutil.Process | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                if (process := self.platform.processes().get(role)) is not None:
                    return process
            time.sleep(0.01)
        return None

    def _kill(self, role: str) -> int:
        process = self._find(role)
        if process is None:
            return 0
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        return int(process.pid)

    def _both(self) -> None:
        for role in self._chance.sample(["engine", "app"], 2):
            self._kill(role)
            time.sleep(self._chance.random() * 0.2)

    def _young(self, role: str) -> None:
        """Kill the child, then its successor within a second of its start."""
        old = self._kill(role)
        deadline = time.monotonic() + 15
        while (process := self._find(role)) is not None and process.pid == old and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(self._chance.random())
        self._kill(role)

    def _merging(self) -> None:
        def merge() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.platform.sql(f"OPTIMIZE TABLE {self._table} FINAL")

        thread = threading.Thread(target=merge, daemon=True)
        thread.start()
        time.sleep(self._chance.random() * 0.3)
        self._kill("engine")
        thread.join(30)

    def _hung(self) -> None:
        process = self._find("engine")
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                time.sleep(self._chance.random() * 2)
                process.send_signal(self._chance.choice([signal.SIGKILL, signal.SIGCONT]))

    def _stopping(self) -> None:
        self.platform.process.send_signal(signal.SIGTERM)
        time.sleep(self._chance.random() * 1.5)
        self._everything()

    def _stop(self) -> None:
        self.platform.process.send_signal(signal.SIGTERM)
        status = self.platform.process.wait(60)
        if status:
            self.disorderly.append(f"a stop ended with status {status}")
        self.platform = harness.start(self.platform.data, log=self._log, key=self.platform.api_key)

    def _everything(self) -> None:
        processes = self.platform.processes() if self.platform.process.poll() is None else {}
        for process in processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.platform.process.wait()
        for process in processes.values():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                process.wait(10)
        self.platform = harness.start(self.platform.data, log=self._log, key=self.platform.api_key)


def run(kills: int, seed: int, folder: Path, kinds: Sequence[str] = ()) -> dict[str, Any]:
    """`kills` kills (of these `kinds`; of all) on a fresh platform in `folder`; the figures of the last line."""
    chance = random.Random(seed)
    log = folder / "platform.log"
    running = harness.start(folder / "data", log=log)
    senders = [Sender(f"keyed-{n}", seed, running, keyed=True) for n in range(3)]
    senders += [Sender(f"once-{n}", seed, running, keyed=False) for n in range(3)]
    watch = LedgerWatch(seed, running)
    killer = Killer(running, chance, log)
    by_kind: Counter[str] = Counter()
    try:
        for thread in (*senders, watch):
            thread.start()
        for kill in range(kills):
            # Two in quick succession now and then.
            time.sleep(chance.random() * (0.1 if chance.random() < 0.25 else 1.5))
            chosen = list(kinds or killer.kinds)
            kind = chance.choices(chosen, [killer.kinds[name][0] for name in chosen])[0]
            by_kind[kind] += 1
            killer.kinds[kind][1]()
            running = killer.platform
            watch.running = running
            for sender in senders:
                sender.running = running
            print(f"  kill {kill + 1}/{kills}: {kind}", flush=True)
        for port in (running.collector_port, running.api_port):
            harness.wait_ready(port, time.monotonic() + 60, running.process)
        for sender in senders:
            sender.finish.set()
        for sender in senders:
            sender.join(90)
            if sender.is_alive():
                sender.unexpected.append("the sender found no end")
        ledger = _drained(running)
        watch.finish.set()
        found, identities = _stored(running)
    finally:
        if running.process.poll() is None:
            status = running.stop()
    figures = _compare(senders, found)
    rows = sum(found.values())
    wrong = list(watch.wrong)
    if ledger["in_flight"] or ledger["stored"] != rows or not is_balanced(ledger):
        wrong.append(f"at the end, with {rows} rows in the table: {json.dumps(ledger)}")
    return {
        "kills": kills, **figures, "rows": rows, "doubled_identities": rows - identities,
        "ledger_answers": watch.answers, "ledger_wrong": wrong[:5], "by_kind": by_kind,
        "statuses": sum((s.statuses for s in senders), Counter()),
        "longest_outage_seconds": round(max(s.longest_outage for s in senders), 1),
        "unexpected_answers": [*killer.disorderly, *(text for s in senders for text in s.unexpected)][:5],
        "errors_logged": _errors(log)[:5], "stop_status": status, "seed": seed,
    }  # fmt: skip


def is_clean(figures: dict[str, Any]) -> bool:
    """Whether nothing went wrong."""
    counts = ("lost", "doubled", "foreign", "doubled_identities", "stop_status")
    lists = ("ledger_wrong", "unexpected_answers", "errors_logged")
    return not any(figures[name] for name in (*counts, *lists))


def _compare(senders: list[Sender], found: Counter[Row]) -> dict[str, int]:
    """lost: acknowledged and not stored. doubled: stored more often than sent. foreign: stored and never sent,
    or with another text."""
    acknowledged = {row for sender in senders for row in sender.acknowledged}
    unknown = {row for sender in senders for row in sender.unknown}
    return {
        "acknowledged": len(acknowledged),
        "lost": sum(row not in found for row in acknowledged),
        "doubled": sum(count - 1 for count in found.values()),
        "foreign": sum(row not in acknowledged and row not in unknown for row in found),
        "unanswered": len(unknown),
        "unanswered_stored": sum(row in found for row in unknown),
    }


def _drained(running: harness.Platform) -> dict[str, int]:
    """The ledger's total once nothing is in flight any more, or after two minutes."""
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            total: dict[str, int] = ask_ledger(running)["total"]
            if not total["in_flight"] or time.monotonic() > deadline:
                time.sleep(1)  # a doubled row would come late
                return ask_ledger(running)["total"]  # type: ignore[no-any-return]
        if time.monotonic() > deadline + 60:
            raise TimeoutError("the ledger does not answer")
        time.sleep(0.2)


def _stored(running: harness.Platform) -> tuple[Counter[Row], int]:
    """Every row of the table, and how many identities there are."""
    table = f"{running.database()}.logs"
    rows = running.sql(f"SELECT service, metadata['n'], CRC32(message) FROM {table}")
    [[identities]] = running.sql(f"SELECT uniqExact(incarnation, partition, offset, row) FROM {table}")
    return Counter((service, int(number), int(crc)) for service, number, crc in rows), int(identities)


def _errors(log: Path) -> list[str]:
    """What the platform logged as an error, and tracebacks."""
    lines = log.read_text(errors="replace").splitlines()
    marks = ('"level":"error"', '"level": "error"', "[error", "Traceback", "Fatal Python error")
    return [line[:300] for line in lines if any(mark in line for mark in marks)]


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logstream-crash-") as folder:
        figures = run(options.kills, options.seed, Path(folder))
    harness.report({**figures, "machine": harness.machine()})
    if not is_clean(figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
