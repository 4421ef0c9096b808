"""`make bench-chaos`: everything dies at random moments on real servers; nothing accepted is lost, nothing is doubled.

A real Kafka broker, a real Postgres, the ClickHouse engine, two collectors, two processors and two APIs, each a process
of its own. Clients send numbered lines to both collectors, each request under an Idempotency-Key and repeated until it
is answered 202, through a proxy that cuts connections in the middle of requests and answers. ClickHouse refuses one
line in 3,000, so that there are dead letters. Meanwhile, in an order that the seed gives:

- SIGKILL of a collector, a processor, an API, ClickHouse, the broker, Postgres; often again before it is up, or of two
  at once; each is started again within half a second;
- a processor stands still (SIGSTOP) for longer than its session and goes on as a zombie (SIGCONT);
- ClickHouse, the broker or a collector stands still, often for longer than anybody waits for it: what it was told
  comes late, beside its repeat;
- the disk under ClickHouse is full for some seconds (a tmpfs, which needs root; left out without, loudly);
- all connections are cut at once.

All the time the ledger is asked: its equation must hold in every answer, it must have every line that was acknowledged
before the question, and no more lines at their end than were sent. Now and then `verify` counts independently. Every
ten kills the platform must be found at work: all ready, new lines accepted and stored.

In the end every line is looked up (`chaos_books`): acknowledged lines are stored once or are one dead letter; the
others are there once or not at all. The books are closed by `logstream verify`.

    --kills N (200)    --seed N (1)    --seconds N (5.5 a kill)    --folder DIR (a temporary one)
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tests.support.disk import Disk, small_disk

from benchmarks import harness
from benchmarks.chaos_books import Findings, audit, ledger_faults
from benchmarks.chaos_load import Client, Cutter
from benchmarks.chaos_parts import INSERT_SECONDS, PATIENCE, SESSION_SECONDS, Installation, Part, balanced

CLIENTS = 4
_WEIGHTS = {"processor": 6, "collector": 5, "clickhouse": 5, "kafka": 3, "api": 2, "postgres": 2}
_DISK_MB = 1024
_CUT_RATE = 0.01
_CLIENT_PAUSE = 0.2
_CHECK_EACH = 10


@dataclass(frozen=True, slots=True)
class Step:
    """What happens after a pause. kind: kill, young (killed again before it is up), two, zombie, hang, disk, cut."""

    pause: float
    kind: str
    victims: tuple[str, ...] = ()
    seconds: float = 0.0


def schedule(seed: int, kills: int, seconds: float) -> list[Step]:
    """The steps of a run with exactly `kills` kills, about `seconds` long, all of every kind that it has room for."""
    chance = random.Random(f"{seed}/schedule")
    # A shuffled deck, so that short runs, too, have every victim.
    deck = [victim for victim, weight in _WEIGHTS.items() for _ in range(weight)]
    victims: list[str] = []
    while len(victims) < kills:
        chance.shuffle(deck)
        victims += sorted(_WEIGHTS, key=lambda _: chance.random()) if not victims else deck
    del victims[kills:]
    steps: list[tuple[str, tuple[str, ...], float]] = []
    while victims:
        dice, victim = chance.random(), victims.pop()
        if dice < 0.15 and victims:
            steps.append(("two", (victim, victims.pop()), 0.0))
        elif dice < 0.3 and victim in victims:
            victims.remove(victim)
            steps.append(("young", (victim,), chance.random() * 3))
        else:
            steps.append(("kill", (victim,), 0.0))
    hung = ["clickhouse", "clickhouse", "kafka", "collector"]
    steps += [("zombie", ("processor",), SESSION_SECONDS + 2 + chance.random() * 6) for _ in range(max(1, kills // 12))]
    steps += [
        ("hang", (chance.choice(hung),), 1 + chance.random() * (INSERT_SECONDS + 2)) for _ in range(max(1, kills // 15))
    ]
    steps += [("disk", (), 1 + chance.random() * 5) for _ in range(max(1, kills // 20))]
    steps += [("cut", (), 0.0) for _ in range(max(1, kills // 10))]
    chance.shuffle(steps)
    pauses = [0.05 if chance.random() < 0.2 else 0.2 + chance.random() for _ in steps]
    scale = seconds / sum(pauses)
    return [Step(pause * scale, *step) for pause, step in zip(pauses, steps, strict=True)]


class LedgerWatch(threading.Thread):
    """Asks for the ledger, and now and then for a verification, all the time; `wrong` is what did not balance."""

    def __init__(self, seed: int, running: Installation, clients: Sequence[Client], verify_seconds: float) -> None:
        super().__init__(name="ledger", daemon=True)
        self.over = threading.Event()
        self.answers = 0
        self.verifications = 0
        self.refused = 0
        self.wrong: list[str] = []
        self._chance = random.Random(f"{seed}/ledger")
        self._running = running
        self._clients = clients
        self._verify_seconds = verify_seconds
        self._accepted = 0

    def run(self) -> None:
        verify_at = time.monotonic() + self._verify_seconds
        while not self.over.wait(self._chance.random()):
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self.ask(self._chance.randrange(2))
            if time.monotonic() > verify_at:
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    self.verify(self._chance.randrange(2))
                verify_at = time.monotonic() + self._verify_seconds

    def ask(self, api: int) -> None:
        """Hold one answer against what is known. Raises OSError."""
        acknowledged = sum(client.acknowledged for client in self._clients)
        ledger = self._running.ledger(api)
        sent = sum(len(client.states) for client in self._clients)
        self.answers += 1
        total = ledger["total"]
        ended = total["stored"] + total["dead_lettered"]
        for wrong in (
            "the equation does not hold" if not ledger["balanced"] or not balanced(total) else "",
            f"{self._accepted} lines were accepted before" if total["accepted"] < self._accepted else "",
            f"{acknowledged} lines were acknowledged before" if ended + total["in_flight"] < acknowledged else "",
            f"only {sent} lines were sent" if ended > sent else "",
        ):
            if wrong:
                self.wrong.append(f"{wrong}: {json.dumps(total)}")
                print(f"  LEDGER: {self.wrong[-1]}", file=sys.stderr, flush=True)
        self._accepted = max(self._accepted, total["accepted"])

    def verify(self, api: int) -> None:
        """Raises OSError."""
        found = self._running.verify(api)
        if found is None:
            self.refused += 1
            return
        self.verifications += 1
        if not found["balanced"]:
            self.wrong.append(f"verify: {json.dumps(found)[:1500]}")
            print(f"  VERIFY: {self.wrong[-1]}", file=sys.stderr, flush=True)


class Chaos:
    """Does the steps to a running installation, and counts what it did."""

    def __init__(self, running: Installation, cutter: Cutter, disk: Disk | None, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self._running = running
        self._cutter = cutter
        self._disk = disk
        self._chance = random.Random(f"{seed}/victims")
        self._later: list[threading.Timer] = []

    def do(self, step: Step) -> None:
        """One step; what lasts goes on beside the next ones. Raises TimeoutError when a part stays away."""
        if step.kind == "disk" and self._disk is None:
            return
        parts = [self._chance.choice(self._running.of(victim)) for victim in step.victims]
        match step.kind:
            case "kill" | "two":
                for part in parts:
                    self._kill(part)
            case "young":
                self._kill(parts[0])
                time.sleep(step.seconds)
                self._kill(parts[0])
            case "zombie" | "hang":
                if not parts[0].freeze():
                    return
                self._after(step.seconds, parts[0].thaw)
            case "disk":
                assert self._disk is not None
                self._disk.fill()
                self._after(step.seconds, self._disk.empty)
            case "cut":
                self._cutter.cut()
        self.done[step.kind] += 1

    def _kill(self, part: Part) -> None:
        """Waits until there is one to kill."""
        deadline = time.monotonic() + PATIENCE
        while not part.kill():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{part.name} does not start any more")
            time.sleep(0.01)
        self.kills[part.victim] += 1

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, call)
        timer.start()
        self._later.append(timer)

    def settle(self) -> None:
        """Wait for what lasts."""
        for timer in self._later:
            timer.join()
        self._later.clear()


class Run:
    """One run on an installation in `folder`; `figures` when it is over."""

    def __init__(self, folder: Path, disk: Disk | None, *, kills: int, seed: int, seconds: float) -> None:
        self._disk = disk
        self._kills, self._seed, self._seconds = kills, seed, seconds
        self.running = Installation(folder, (disk.path if disk else folder) / "clickhouse", seed)
        self.clients: list[Client] = []
        self.faults: list[str] = []

    def run(
        self, tell: Callable[[int, str], None], afterwards: Callable[["Run"], None] = lambda _: None
    ) -> dict[str, Any]:
        """tell: is told of each kill, by number and name of what died. afterwards: called with everything still up.

        Leaves no process behind.
        """
        try:
            self.running.start()
            with Cutter(self.running.collector_ports, self._seed, _CUT_RATE) as cutter:
                figures = self._chaos(cutter, tell)
            afterwards(self)
        finally:
            self.running.close()
        return figures

    def _chaos(self, cutter: Cutter, tell: Callable[[int, str], None]) -> dict[str, Any]:
        running, seed = self.running, self._seed
        self.clients = [Client(n, seed, cutter.ports, running.key, _CLIENT_PAUSE) for n in range(CLIENTS)]
        watch = LedgerWatch(seed, running, self.clients, max(5.0, self._seconds / 60))
        chaos = Chaos(running, cutter, self._disk, seed)
        try:
            for thread in (*self.clients, watch):
                thread.start()
            checked = 0
            for step in schedule(seed, self._kills, self._seconds):
                time.sleep(step.pause)
                chaos.do(step)
                kills = sum(chaos.kills.values())
                tell(kills, f"{step.kind} {', '.join(step.victims)}".strip())
                if kills >= checked + _CHECK_EACH:
                    checked = kills
                    self._works(chaos)
            self._works(chaos)
            self.faults += [f"{client.name} is dead" for client in self.clients if not client.is_alive()]
            for client in self.clients:
                client.over.set()
            for client in self.clients:
                client.join(PATIENCE)
                if client.is_alive():
                    self.faults.append(f"{client.name} found no end")
            total = self._drained()
        finally:
            for client in self.clients:
                client.over.set()
            watch.over.set()
            watch.join(PATIENCE)
            chaos.settle()
        found = self.look()
        wrong = [*watch.wrong, *ledger_faults(total, found), *self._closed(total, found)]
        return self._figures(chaos, cutter, watch, found, total, wrong)

    def look(self) -> Findings:
        """Look every line up."""
        sent = {client.number: client.states for client in self.clients}
        return audit(self._seed, sent, self._rows(), self._letters())

    def _works(self, chaos: Chaos) -> None:
        """Whatever happened: all become ready, and new lines are accepted and stored. Raises TimeoutError."""
        chaos.settle()
        self.running.wait_ready()
        acknowledged = sum(client.acknowledged for client in self.clients)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                total = self.running.ledger(0)["total"]
                ended = total["stored"] + total["dead_lettered"]
                if ended >= acknowledged and sum(c.acknowledged for c in self.clients) > acknowledged:
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no progress within {PATIENCE:g} s: {self.running.unready()}")
            time.sleep(0.2)

    def _drained(self) -> dict[str, int]:
        """The ledger's total once nothing is in flight any more. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        said: object = None
        while time.monotonic() < deadline:
            try:
                said = total = self.running.ledger(0)["total"]
                if not total["in_flight"]:
                    # Something doubled may come late.
                    time.sleep(2)
                    return dict(self.running.ledger(1)["total"])
            except (OSError, http.client.HTTPException, ValueError) as error:
                said = error
            time.sleep(0.2)
        raise TimeoutError(f"something is in flight for ever, or the ledger cannot be told: {said!r}")

    def _rows(self) -> Iterator[tuple[int, int, int]]:
        table = f"{self.running.stream.database}.logs"
        for client in range(CLIENTS):
            rows = self.running.command(
                f"SELECT toUInt32(metadata['client']), toUInt32(metadata['n']), CRC32(message) FROM {table} "
                f"WHERE service = 'chaos-{client}' FORMAT RowBinary"
            )
            yield from struct.iter_unpack("<III", rows)

    def _letters(self) -> Iterator[tuple[int, int]]:
        cursor = ""
        while True:
            query = urlencode({"limit": 100} | ({"cursor": cursor} if cursor else {}))
            page = json.loads(self.running.ask(0, f"/api/v1/deadletters?{query}"))
            for letter in page["deadletters"]:
                if letter["record"] is None:
                    self.faults.append(f"a letter without a line: {json.dumps(letter)[:500]}")
                    continue
                metadata = letter["record"]["metadata"]
                yield int(metadata["client"]), int(metadata["n"])
            if not (cursor := page["next"]):
                return

    def _closed(self, total: Mapping[str, int], found: Findings) -> list[str]:
        """What is wrong with the books when they are closed."""
        table = f"{self.running.stream.database}.logs"
        rows, identities = map(int, self.running.command(
            f"SELECT count(), uniqExact(incarnation, partition, offset, row) FROM {table} FORMAT TSV"
        ).split())  # fmt: skip
        wrong = []
        if not rows == identities == found.stored:
            wrong.append(f"{rows} rows with {identities} identities, of which {found.stored} are the clients'")
        done = subprocess.run(
            [
                sys.executable, "-m", "logstream.cli", "verify", "--output", "json",
                "--api-url", f"http://127.0.0.1:{self.running.api_ports[0]}",
            ],
            env={**os.environ, "LOGSTREAM_API_KEY": self.running.key}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            wrong.append(f"logstream verify: {done.stdout[:2000]} {done.stderr[:500]}")
        return wrong

    def _figures(
        self, chaos: Chaos, cutter: Cutter, watch: LedgerWatch, found: Findings, total: Mapping[str, int],
        wrong: Sequence[str],
    ) -> dict[str, Any]:  # fmt: skip
        services = [part for part in self.running.parts if part.victim not in ("kafka", "postgres")]
        clients = self.clients
        return {
            "kills": sum(chaos.kills.values()),
            "accepted": total["accepted"],
            "deduplicated": total["deduplicated"],
            **{name: value for name, value in asdict(found).items() if name != "examples"},
            "ledger_out": len(wrong),
            "by_victim": chaos.kills,
            "zombies": chaos.done["zombie"],
            "hangs": chaos.done["hang"],
            "full_disks": chaos.done["disk"] if self._disk else None,
            "cuts": cutter.cuts,
            "ledger_answers": watch.answers,
            "verifications": watch.verifications,
            "requests": sum((client.statuses for client in clients), Counter()),
            "longest_outage_seconds": round(max(client.longest_outage for client in clients), 1),
            "wrong": [*found.examples, *wrong][:10],
            "faults": [*self.faults, *(fault for client in clients for fault in client.faults)][:10],
            "deaths": [death[:1000] for part in services for death in part.deaths][:10],
            "errors_logged": self.running.events(),
            "seed": self._seed,
        }


def is_clean(figures: Mapping[str, Any]) -> bool:
    """Whether nothing went wrong."""
    counts = ("lost", "doubled", "foreign", "damaged", "misplaced", "ledger_out")
    return not any(figures[name] for name in (*counts, "faults", "deaths"))


@contextlib.contextmanager
def disk_at(path: Path) -> Iterator[Disk | None]:
    """A small disk, or None, said loudly, where none can be mounted."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(path, _DISK_MB))
        except pytest.skip.Exception as reason:
            print(f"A FULL DISK IS NOT TRIED: {reason.msg}", file=sys.stderr, flush=True)
            disk = None
        yield disk


def run(
    folder: Path,
    *,
    kills: int,
    seed: int,
    seconds: float,
    tell: Callable[[int, str], None] = lambda *_: None,
    afterwards: Callable[[Run], None] = lambda _: None,
) -> dict[str, Any]:
    """The figures of the last line. Raises TimeoutError when the platform does not come back."""
    with disk_at(folder / "disk") as disk:
        return Run(folder, disk, kills=kills, seed=seed, seconds=seconds).run(tell, afterwards)


@contextlib.contextmanager
def _progress(kills: int) -> Iterator[Callable[[int, str], None]]:
    """A bar where somebody looks, else a line a step."""
    if not sys.stderr.isatty():
        yield lambda done, what: print(f"  {done}/{kills} kills: {what}", flush=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(TextColumn("kills"), *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=kills)
        yield lambda done, what: bar.update(task, completed=done, description=what)


def main() -> None:
    """Run, print a report for people, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="how long the kills are spread out")
    parser.add_argument("--folder", type=Path, help="keep everything in this new folder")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with contextlib.ExitStack() as stack:
        if options.folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logstream-chaos-")))
        else:
            folder = options.folder.absolute()
            folder.mkdir(parents=True)
        tell = stack.enter_context(_progress(options.kills))
        seconds = options.seconds or 5.5 * options.kills
        figures = run(folder, kills=options.kills, seed=options.seed, seconds=seconds, tell=tell)
    harness.report({**figures, "machine": harness.machine()})
    if not is_clean(figures):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
