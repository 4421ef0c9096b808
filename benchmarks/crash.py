"""`make bench-crash`: SIGKILL at random moments of ingest; nothing acknowledged is lost, nothing keyed is doubled.

Every request has an Idempotency-Key and is repeated with it until it is answered 202. Each kill takes the
engine, the application process or (one in five) everything, supervisor included, which is then started again on
the same data. Seeded.

    --kills N    (100)      --seed N    (1)
"""

import argparse
import http.client
import json
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import harness

_ROWS_PER_REQUEST = 50


class Sender(threading.Thread):
    """Posts numbered rows; remembers which were acknowledged. The platform may go away at any moment."""

    def __init__(self, number: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.acknowledged = 0
        self.running: harness.Platform | None = None
        self.finish = threading.Event()
        self.failures: list[str] = []

    def _requests(self) -> Iterator[tuple[str, bytes]]:
        sequence = 0
        while not self.finish.is_set():
            rows = [
                {"service": f"sender-{self.number}", "level": "info", "message": f"row {sequence + i} of {self.number}",
                 "metadata": {"n": str(sequence + i)}}
                for i in range(self.random.randint(1, _ROWS_PER_REQUEST))
            ]  # fmt: skip
            yield f"{self.number}-{sequence}", "\n".join(map(json.dumps, rows)).encode()
            sequence += len(rows)
            self.acknowledged = sequence

    def run(self) -> None:
        for key, body in self._requests():
            while not self._post(key, body):
                time.sleep(0.05)
            time.sleep(self.random.random() * 0.02)

    def _post(self, key: str, body: bytes) -> bool:
        running = self.running
        assert running is not None
        connection = http.client.HTTPConnection("127.0.0.1", running.collector_port, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {running.api_key}", "Idempotency-Key": key}
            connection.request("POST", "/ingest", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return False  # no answer: it may be stored or not, so the same key goes again
        finally:
            connection.close()
        if answer.status not in {202, 429, 503}:
            self.failures.append(f"{answer.status} {text[:200]!r}")
        return answer.status == 202


def _kill(running: harness.Platform, role: str, log: Path) -> harness.Platform:
    processes = running.processes()
    if role != "everything":
        if role in processes:
            processes[role].send_signal(signal.SIGKILL)
        return running
    running.process.send_signal(signal.SIGKILL)
    for name, process in processes.items():
        if name != "supervisor":
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
    running.process.wait()
    return harness.start(running.data, log=log, key=running.api_key)


def run(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """`kills` kills on a fresh platform in `folder`; the figures of the last line."""
    chance = random.Random(seed)
    log = folder / "platform.log"
    running = harness.start(folder / "data", log=log)
    senders = [Sender(number, seed) for number in range(4)]
    try:
        for sender in senders:
            sender.running = running
            sender.start()
        by_role: dict[str, int] = {}
        for kill in range(kills):
            time.sleep(chance.random() * 1.5)
            role = chance.choices(["engine", "app", "everything"], [2, 2, 1])[0]
            by_role[role] = by_role.get(role, 0) + 1
            running = _kill(running, role, log)
            for sender in senders:
                sender.running = running
            print(f"  kill {kill + 1}/{kills}: {role}", flush=True)
        harness.wait_ready(running.collector_port, time.monotonic() + 60, running.process)
        for sender in senders:
            sender.finish.set()
        for sender in senders:
            sender.join(60)
        sent = sum(sender.acknowledged for sender in senders)
        failures = [failure for sender in senders for failure in sender.failures]
        lost, doubled = _count(running, senders, sent)
    finally:
        running.stop()
    return {
        "kills": kills, "lost": lost, "doubled": doubled, "acknowledged": sent, "by_role": by_role,
        "unexpected_answers": failures[:5], "seed": seed,
    }  # fmt: skip


def _count(running: harness.Platform, senders: list[Sender], sent: int) -> tuple[int, int]:
    """Wait for the processor to drain, then compare what is stored with what was acknowledged."""
    deadline = time.monotonic() + 120
    stored: dict[str, tuple[int, int]] = {}
    while time.monotonic() < deadline:
        try:
            answer = running.sql(
                "SELECT service, count(), uniqExact(metadata['n']) FROM "
                f"{running.database()}.logs WHERE service LIKE 'sender-%' GROUP BY service"
            )
        except OSError:
            time.sleep(0.5)
            continue
        stored = {row[0]: (int(row[1]), int(row[2])) for row in answer}
        if sum(unique for _, unique in stored.values()) >= sent:
            time.sleep(1)  # a doubled row would come late
            break
        time.sleep(0.5)
    lost = doubled = 0
    for sender in senders:
        rows, unique = stored.get(f"sender-{sender.number}", (0, 0))
        lost += max(0, sender.acknowledged - unique)
        doubled += rows - unique
    return lost, doubled


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logstream-crash-") as folder:
        figures = run(options.kills, options.seed, Path(folder))
    harness.report({**figures, "machine": harness.machine()})
    if figures["lost"] or figures["doubled"] or figures["unexpected_answers"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
