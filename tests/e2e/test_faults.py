"""Faults against a real `logstream up`: kills, a stalled engine, a full log, a full disk, slow senders."""

import contextlib
import json
import os
import resource
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import crash, harness
from tests.support.disk import small_disk


def _post(running: harness.Platform, body: bytes, **headers: str) -> tuple[int, dict[str, str], dict[str, object]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running.collector_port}/ingest",
        data=body,
        headers={"Authorization": f"Bearer {running.api_key}", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read())


def _lines(count: int, tag: str, size: int = 40) -> bytes:
    return b"\n".join(
        json.dumps({"service": tag, "message": f"{tag} {number} " + "x" * size}).encode() for number in range(count)
    )


def _stored(running: harness.Platform, service: str) -> int:
    return int(running.sql(f"SELECT count() FROM {running.database()}.logs WHERE service = '{service}'")[0][0])


def _eventually_stored(running: harness.Platform, service: str, wanted: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    found = -1
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = _stored(running, service)
            if found >= wanted:
                break
        time.sleep(0.1)
    assert found == wanted


@contextlib.contextmanager
def _platform(folder: Path, **environment: str) -> Iterator[harness.Platform]:
    """`logstream up` in `folder` with settings from the environment."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        running = harness.start(folder / "data", log=folder / "platform.log")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    figures = crash.run(kills=8, seed=20_261_124, folder=tmp_path)
    assert figures["acknowledged"] > 0
    assert figures["ledger_answers"] > 0
    assert crash.is_clean(figures), figures


@pytest.mark.slow
def test_stops_under_load_lose_nothing_and_end_in_order(tmp_path: Path) -> None:
    figures = crash.run(kills=3, seed=7, folder=tmp_path, kinds=["stop"])
    assert figures["acknowledged"] > 0
    assert crash.is_clean(figures), figures


@pytest.mark.slow
def test_metrics_say_what_was_sent(tmp_path: Path) -> None:
    with _platform(tmp_path) as running:
        bodies = {
            _lines(1500, "one"): 202,  # shared with nobody
            _lines(3, "two"): 202,
            _lines(2, "three") + b'\n{"no": "message"}\n{"message": 1, "ts": "never"}': 202,
            b'{"message": "' + b"x" * 300_000 + b'"}': 202,
            b"not json": 400,
            b"": 400,
        }
        for body, status in bodies.items():
            assert _post(running, body)[0] == status
        keyed = _lines(7, "keyed")
        for _ in range(3):
            assert _post(running, keyed, **{"Idempotency-Key": "k"})[0] == 202
        assert _post(running, b"{}", **{"Idempotency-Key": "k"})[0] == 400
        assert _post(running, _lines(1, "other"), **{"Idempotency-Key": "k"})[0] == 422
        assert _post(running, b"x", **{"Content-Encoding": "br"})[0] == 415
        accepted = 1500 + 3 + 2 + 1 + 7
        _eventually_stored(running, "keyed", 7)
        _eventually_stored(running, "one", 1500)
        ledger = crash.ask_ledger(running)["total"]
        assert not any(ledger.pop("dead_letters").values())
        assert ledger == {
            "accepted": accepted + 14, "stored": accepted, "deduplicated": 14, "dead_lettered": 0, "in_flight": 0,
            "present": accepted,
        }  # fmt: skip
        sent = sum(map(len, bodies)) + 3 * len(keyed) + len(b"{}") + len(_lines(1, "other")) + len(b"x")
        found = _metrics(running.collector_port)
        expected = {
            'logstream_ingest_requests_total{status="202"}': 7,
            'logstream_ingest_requests_total{status="400"}': 3,
            'logstream_ingest_requests_total{status="422"}': 1,
            'logstream_ingest_requests_total{status="415"}': 1,
            'logstream_ingest_accepted_records_total{stream="default"}': accepted,
            'logstream_ingest_rejected_records_total{code="missing_message"}': 2,
            'logstream_ingest_rejected_records_total{code="invalid_timestamp"}': 1,
            'logstream_ingest_rejected_records_total{code="malformed_json"}': 1,
            'logstream_ingest_truncated_records_total{stream="default"}': 1,
            'logstream_ingest_body_bytes_total{stream="default"}': sent,
            'logstream_processor_stored_records_total{stream="default"}': accepted,
            "logstream_processor_insert_rows_sum": accepted,
            "logstream_ingest_pending_bytes": 0,
        }
        assert {name: found.get(name) for name in expected} == expected


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.slow
def test_a_stalled_engine_holds_up_ingestion_only_at_the_logs_limit(tmp_path: Path) -> None:
    with _platform(tmp_path, LOGSTREAM_BUS_MAX_BYTES=str(4 * 1024 * 1024)) as running:
        engine = running.processes()["engine"]
        engine.send_signal(signal.SIGSTOP)
        try:
            accepted = 0
            for _ in range(400):
                status, headers, answer = _post(running, _lines(100, "stalled", 400))
                if status != 202:
                    break
                accepted += int(str(answer["accepted"]))
            assert status == 503, answer
            assert int(headers["retry-after"]) >= 1
            assert accepted >= 1000, "ingestion went on while the engine was away"
        finally:
            engine.send_signal(signal.SIGCONT)
        _eventually_stored(running, "stalled", accepted)
        assert _post(running, _lines(1, "after"))[0] == 202


@pytest.mark.slow
def test_too_little_free_disk_is_503_and_recovers(tmp_path: Path) -> None:
    """A small file system that is really full."""
    floor = 24 * 1024 * 1024
    with (
        small_disk(tmp_path / "disk", 160) as disk,
        _platform(disk.path, LOGSTREAM_BUS_MIN_FREE_DISK_BYTES=str(floor)) as running,
    ):
        assert _post(running, _lines(10, "before"))[0] == 202
        _eventually_stored(running, "before", 10)
        disk.fill()
        status, headers, answer = 202, {}, {}
        for _ in range(200):
            status, headers, answer = _post(running, _lines(10, "full"))
            if status != 202:
                break
            time.sleep(0.05)
        assert status == 503, answer
        assert int(headers["retry-after"]) >= 1
        assert running.process.poll() is None
        disk.empty()
        deadline = time.monotonic() + 60
        while _post(running, _lines(10, "again"))[0] != 202:
            assert time.monotonic() < deadline, "ingestion did not recover after space came back"
            time.sleep(0.2)
        _eventually_stored(running, "again", 10)


def test_a_low_limit_of_open_files_is_no_limit_of_connections(tmp_path: Path) -> None:
    """As a shell gives it on macOS: 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    idle: list[socket.socket] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        with _platform(tmp_path) as running:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            idle = [socket.create_connection(("127.0.0.1", running.collector_port)) for _ in range(400)]
            assert _post(running, _lines(3, "crowded"))[0] == 202
            _eventually_stored(running, "crowded", 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in idle:
            sock.close()


def test_slow_headers_are_cut_off_and_hold_nobody_up(tmp_path: Path) -> None:
    with _platform(tmp_path, LOGSTREAM_INGEST_HEADER_TIMEOUT_SECONDS="1") as running:
        slow = [socket.create_connection(("127.0.0.1", running.collector_port)) for _ in range(50)]
        for sock in slow:
            sock.sendall(b"POST /ingest HTTP/1.1\r\nHost: x\r\n")
        assert _post(running, _lines(3, "quick"))[0] == 202
        for sock in slow:
            sock.settimeout(20)
            assert sock.recv(1024) == b"", "the connection is closed without an answer"
            sock.close()
