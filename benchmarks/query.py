"""`make bench-query`: the questions people ask of their logs, over the HTTP API, answers verified.

Rows go in over the collector; when merges are idle each question is asked in turn, one request at a time, over one
connection with an API key. The engine's query condition cache, which answers a repeated question from memory, is
emptied before every request. Every answer is compared with the generator's own counts.

    --rows N                         rows (5,000,000)
    --repeat N                       requests a question; the median counts (15)
    --users N                        then so many users at once, mixed questions (20; 0: none)
    --seconds N                      for so long (20)
    --compare victorialogs=URL       the same rows and questions to a server on this machine that is already running
"""

import argparse
import json
import math
import random
import statistics
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from rich.progress import track

from benchmarks import harness, ingest
from benchmarks.workload import STEP_NS, Workload
from logstream.record import LEVEL_LABELS

WORD, PHRASE, SUBSTRING = "session", "timed out after", "orders/1234"
SERVICE, LEVEL, REGION = "payment", "error", "us-east-1"
_MINUTE = 60 * 10**9
_BATCHES_AT_ONCE = 5_000

VICTORIALOGS_MS = {
    "unique_id_in_metadata": 3.5,
    "unique_token_in_message": 3.9,
    "count_of_a_common_word": 152.0,
    "newest_100_with_a_phrase": 249.0,
    "newest_100": 189.0,
    "newest_100_service_and_level": 16.0,
    "count_of_a_substring": 167.0,
    "volume_per_minute_and_level": 86.0,
    "top_services": 1.4,
    "count_of_metadata_key_value": 49.0,
    "volume_per_minute_with_a_word": 217.0,
}
"""What VictoriaLogs took for 5 M rows of this kind on two cores, see RESULTS.md, "Questions"."""
FLOOR_MS = 25.0
"""Where VictoriaLogs is faster than this, this is fast enough."""


@dataclass(slots=True)
class Reference:
    """What a plain pass over the generated rows says."""

    start: int
    end: int
    unique_id: str
    unique_token: str
    words: int
    substrings: int
    pairs: int
    newest: list[str]
    newest_phrase: list[str]
    newest_service: list[str]
    per_minute_level: Counter[tuple[int, str]]
    per_minute_word: Counter[int]
    services: Counter[str]


def reference(workload: Workload) -> Reference:
    """Read all rows once, the newest last."""
    words = substrings = pairs = 0
    per_minute_level: Counter[tuple[int, str]] = Counter()
    per_minute_word: Counter[int] = Counter()
    services: Counter[str] = Counter()
    newest: list[tuple[int, str]] = []
    phrase: list[tuple[int, str]] = []
    service: list[tuple[int, str]] = []
    start, end = 1 << 62, 0
    unique_id = unique_token = ""
    for number in track(range(workload.batches), "reference"):
        batch = workload.batch(number)
        start, end = min(start, *batch.timestamps), max(end, *batch.timestamps)
        for at, name, level, message, metadata in zip(
            batch.timestamps, batch.services, batch.levels, batch.messages, batch.metadata, strict=True
        ):
            per_minute_level[at // _MINUTE, LEVEL_LABELS[level - 1]] += 1
            services[name] += 1
            if f" {WORD}:" in message:
                words += 1
                per_minute_word[at // _MINUTE] += 1
            substrings += SUBSTRING in message
            pairs += metadata["region"] == REGION
            if PHRASE in message:
                phrase.append((at, message))
            if name == SERVICE and LEVEL_LABELS[level - 1] == LEVEL:
                service.append((at, message))
        newest += zip(batch.timestamps, batch.messages, strict=True)
        for kept in (newest, phrase, service):
            # No two batches further apart than this overlap in time.
            if len(kept) > 20_000:
                kept.sort()
                del kept[:-5_000]
        if number == workload.batches // 3:
            unique_id = batch.metadata[500]["request"]
            found = next(
                m for m in batch.messages if f" {WORD}:" in m and any(c in "abcdef" for c in m.split(":")[1][:8])
            )
            unique_token = found.split(f"{WORD}:")[1].split(",")[0]

    def last(kept: list[tuple[int, str]]) -> list[str]:
        return [message for _, message in sorted(kept, reverse=True)[:100]]

    return Reference(
        start, end, unique_id, unique_token, words, substrings, pairs, last(newest), last(phrase), last(service),
        per_minute_level, per_minute_word, services,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """path: of the API. check: whether its answer is right."""

    name: str
    path: str
    parameters: dict[str, str]
    check: Callable[[Any], bool]


def _messages(answer: Any) -> list[str]:
    return [line["message"] for line in answer["logs"]]


def _single(answer: Any) -> Any:
    return answer["rows"][0][0]


def _values(answer: Any) -> list[tuple[str, int]]:
    return [(value["value"], value["count"]) for value in answer["facets"][0]["values"]]


def _minute(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) // 60


def questions(truth: Reference) -> list[Question]:
    """The eleven, with what their answers must be."""

    def ask(name: str, path: str, check: Callable[[Any], bool], **parameters: str) -> Question:
        bounds = {"start_time": str(truth.start), "end_time": str(truth.end)}
        return Question(name, f"/api/v1/{path}", bounds | parameters, check)

    return [
        ask("unique_id_in_metadata", "search", lambda a: len(a["logs"]) == 1, query=f"request:{truth.unique_id}"),
        ask(
            "unique_token_in_message", "search",
            lambda a: len(a["logs"]) == 1 and truth.unique_token in a["logs"][0]["message"], query=truth.unique_token,
        ),
        ask("count_of_a_common_word", "query", lambda a: _single(a) == truth.words, query=f"{WORD} | stats count()"),
        ask(
            "newest_100_with_a_phrase", "search", lambda a: _messages(a) == truth.newest_phrase, query=f'"{PHRASE}"',
            limit="100",
        ),
        ask("newest_100", "search", lambda a: _messages(a) == truth.newest, limit="100"),
        ask(
            "newest_100_service_and_level", "search", lambda a: _messages(a) == truth.newest_service,
            query=f"service:{SERVICE} level:{LEVEL}", limit="100",
        ),
        ask(
            "count_of_a_substring", "query", lambda a: _single(a) == truth.substrings,
            query=f'"{SUBSTRING}" | stats count()',
        ),
        ask(
            "volume_per_minute_and_level", "histogram",
            lambda a: Counter({
                (_minute(b["timestamp"]), level): n for b in a["buckets"] for level, n in b["values"].items()
            }) == truth.per_minute_level,
            by="level", step="1m",
        ),
        ask(
            "top_services", "facets", lambda a: _values(a) == truth.services.most_common(10), fields="service",
            limit="10",
        ),
        ask(
            "count_of_metadata_key_value", "query", lambda a: _single(a) == truth.pairs,
            query=f"region:{REGION} | stats count()",
        ),
        ask(
            "volume_per_minute_with_a_word", "query",
            lambda a: Counter({_minute(row[0]): row[1] for row in a["rows"]}) == truth.per_minute_word,
            query=f"{WORD} | timechart 1m count()",
        ),
    ]  # fmt: skip


class Client:
    """One connection with a key."""

    def __init__(self, running: harness.Platform) -> None:
        self._connection = HTTPConnection("127.0.0.1", running.api_port, timeout=60)
        self._headers = {"Authorization": f"Bearer {running.api_key}"}

    def get(self, question: Question) -> tuple[float, bytes]:
        """Milliseconds until the whole answer was there, and the answer."""
        begin = time.perf_counter()
        self._connection.request("GET", f"{question.path}?{urlencode(question.parameters)}", headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        took = (time.perf_counter() - begin) * 1000
        if response.status != 200:
            raise SystemExit(f"{question.name}: {response.status} {body[:500]!r}")
        return took, body


def _load(running: harness.Platform, workload: Workload) -> None:
    """All rows into the collector, as many at a time as the load generator can hold."""
    for first in range(0, workload.batches, _BATCHES_AT_ONCE):
        end = min(first + _BATCHES_AT_ONCE, workload.batches)
        job = harness.collector_job(running) | {
            "rows": workload.rows, "rows_per_body": workload.batch_rows, "connections": 50, "batches": [first, end],
            "seed": workload.seed, "start_ns": workload.start_ns,
        }  # fmt: skip
        load = harness.prepare_load(job)
        harness.begin_load(load)
        sent = harness.finish_load(load)
        rows = min(end * workload.batch_rows, workload.rows) - first * workload.batch_rows
        if sent["accepted"] != rows:
            raise SystemExit(f"accepted {sent['accepted']} of {rows}: {sent['statuses']}")


def _forget(running: harness.Platform) -> None:
    """Empty the engine's query condition cache."""
    url = f"http://127.0.0.1:{running.clickhouse_port}/"
    with urllib.request.urlopen(urllib.request.Request(url, data=b"SYSTEM DROP QUERY CONDITION CACHE"), timeout=30):
        pass


def _one_user(running: harness.Platform, asked: list[Question], repeat: int) -> dict[str, dict[str, float]]:
    client = Client(running)
    figures: dict[str, dict[str, float]] = {}
    for question in asked:
        times = []
        for _ in range(repeat):
            _forget(running)
            took, body = client.get(question)
            if not question.check(json.loads(body)):
                raise SystemExit(f"{question.name}: wrong answer {body[:2000]!r}")
            times.append(took)
        figures[question.name] = {"median": statistics.median(times), "least": min(times), "most": max(times)}
    return figures


def _patterns(running: harness.Platform, truth: Reference, workload: Workload) -> dict[str, float]:
    """Message templates of the newest million rows, compared with the million before."""
    rows = min(1_000_000, workload.rows // 2)
    start = workload.start_ns + (workload.rows - rows) * STEP_NS
    parameters = {"start_time": str(start), "end_time": str(truth.end)}
    client, times = Client(running), []
    for _ in range(3):
        _forget(running)
        took, body = client.get(Question("patterns", "/api/v1/patterns", parameters, lambda _: True))
        answer = json.loads(body)
        counted = sum(pattern["count"] for pattern in answer["patterns"]) + answer["rest"]
        # Half of a mean distance more or less lies on either side of the border.
        if counted != answer["total"] or abs(answer["total"] - rows) > 2_000 or len(answer["patterns"]) != 6:
            raise SystemExit(f"patterns: wrong answer {body[:2000]!r}")
        times.append(took)
    return {"rows": rows, "milliseconds": round(statistics.median(times), 1)}


def _users(running: harness.Platform, asked: list[Question], users: int, seconds: float) -> dict[str, Any]:
    """`users` at once, each with questions in random order and no pause."""
    times: list[float] = []
    stop = time.monotonic() + seconds

    def run(seed: int) -> None:
        chosen, client = random.Random(seed), Client(running)
        while time.monotonic() < stop:
            question = chosen.choice(asked)
            _forget(running)
            took, body = client.get(question)
            if not question.check(json.loads(body)):
                raise SystemExit(f"{question.name}: wrong answer among {users} users")
            times.append(took)

    failures: list[BaseException] = []

    def guarded(seed: int) -> None:
        try:
            run(seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    ordered = sorted(times)
    return {
        "users": users,
        "requests": len(times),
        "requests_per_second": round(len(times) / seconds, 1),
        "p50_ms": round(ordered[len(ordered) // 2], 1),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
    }


def _victorialogs(url: str, workload: Workload, truth: Reference, repeat: int) -> dict[str, float]:
    """The same rows and questions there; milliseconds by question. Answers are checked by their number of lines."""
    target = urlsplit(url)
    if target.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise SystemExit("--compare sends load to loopback only")
    connection = HTTPConnection(target.hostname, target.port or 9428, timeout=120)
    path = "/insert/jsonline?_stream_fields=service&_msg_field=message&_time_field=timestamp"
    for number in track(range(workload.batches), "rows to victorialogs"):
        connection.request("POST", path, workload.ndjson(number), {"Content-Type": "application/stream+json"})
        response = connection.getresponse()
        response.read()
        if response.status >= 300:
            raise SystemExit(f"victorialogs answers {response.status}")
    time.sleep(20)
    sort = "| sort by (_time) desc limit 100"
    queries = {
        "unique_id_in_metadata": (f'"metadata.request":={truth.unique_id} | limit 100', 1),
        "unique_token_in_message": (f'"{truth.unique_token}" | limit 100', 1),
        "count_of_a_common_word": (f"{WORD} | count()", 1),
        "newest_100_with_a_phrase": (f'"{PHRASE}" {sort}', 100),
        "newest_100": (f"* {sort}", 100),
        "newest_100_service_and_level": (f"service:={SERVICE} level:={LEVEL} {sort}", 100),
        "count_of_a_substring": (f'~"{SUBSTRING}" | count()', 1),
        "volume_per_minute_and_level": ("* | stats by (_time:1m, level) count()", len(truth.per_minute_level)),
        "top_services": ("* | top 10 (service)", 10),
        "count_of_metadata_key_value": (f'"metadata.region":={REGION} | count()', 1),
        "volume_per_minute_with_a_word": (f"{WORD} | stats by (_time:1m) count()", len(truth.per_minute_word)),
    }
    figures = {}
    for name, (query, lines) in queries.items():
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            form = urlencode({"query": query, "start": str(truth.start), "end": str(truth.end + 1)})
            connection.request("GET", f"/select/logsql/query?{form}")
            body = connection.getresponse().read()
            times.append((time.perf_counter() - begin) * 1000)
            if len(body.splitlines()) != lines:
                raise SystemExit(f"victorialogs, {name}: {len(body.splitlines())} lines, not {lines}: {body[:300]!r}")
        figures[name] = statistics.median(times)
    return figures


def _table(measured: dict[str, dict[str, float]], theirs: dict[str, float]) -> float:
    """Print question by question; the geometric mean of the ratios."""
    ratios = []
    for name, took in measured.items():
        ratio = took["median"] / theirs[name]
        ratios.append(ratio)
        slow = took["median"] > max(theirs[name], FLOOR_MS)
        print(
            f"  {name.replace('_', ' '):<32} {took['median']:8.1f} ms  ({took['least']:.1f} to {took['most']:.1f})   "
            f"VictoriaLogs {theirs[name]:6.1f}   ratio {ratio:5.2f}{'   SLOWER' if slow else ''}"
        )
    return math.exp(statistics.fmean(map(math.log, ratios)))


def main() -> None:
    """Load, ask, verify, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--compare", metavar="victorialogs=URL")
    options = parser.parse_args()
    workload = Workload(options.rows, seed=20_261_124, start_ns=time.time_ns() // 1000 * 1000 - options.rows * STEP_NS)
    figures: dict[str, Any] = {"rows": options.rows}
    with harness.platform_up() as running:
        database = running.database()
        _load(running, workload)
        truth = reference(workload)
        parts = ingest.merges_idle(running, database, options.rows)
        print(f"{options.rows:,} rows in {len(parts)} parts: {sorted(parts, reverse=True)[:8]}")
        asked = questions(truth)
        measured = _one_user(running, asked, options.repeat)
        figures["patterns"] = _patterns(running, truth, workload)
        print(f"  patterns: {figures['patterns']}")
        if options.users:
            figures["mixed"] = _users(running, asked, options.users, options.seconds)
            print(f"  {options.users} users at once: {figures['mixed']}")
        figures["peak_rss_mb"] = {role: round(value) for role, value in running.peak_rss_mb().items()}
    theirs = VICTORIALOGS_MS
    if options.compare:
        name, _, url = options.compare.partition("=")
        if name != "victorialogs":
            raise SystemExit(f"--compare knows victorialogs=URL, not {name}")
        theirs = _victorialogs(url, workload, truth, options.repeat)
        figures["victorialogs_milliseconds"] = {name: round(value, 1) for name, value in theirs.items()}
    ratio = _table(measured, theirs)
    print(f"  geometric mean of the ratios: {ratio:.3f}")
    harness.report({
        "milliseconds": {name: round(took["median"], 1) for name, took in measured.items()},
        "geometric_mean_ratio": round(ratio, 3),
        **figures,
        "machine": harness.machine(),
    })  # fmt: skip


if __name__ == "__main__":
    main()
