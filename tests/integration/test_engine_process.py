"""The engine's life: starting, stopping, refusing to start, limits, surviving SIGKILL."""

import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.support.engine import EngineProcess

pytestmark = pytest.mark.engine


def _post(url: str, body: bytes, query: str = "") -> bytes:
    with urllib.request.urlopen(f"{url}/?{query}", data=body, timeout=60) as response:
        return bytes(response.read())


def _repeat(url: str, body: bytes) -> None:
    for _ in range(500):
        _post(url, body)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "logstream.standalone.engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_a_second_instance_on_the_same_data_ends_with_one_sentence(engine: EngineProcess) -> None:
    second = _run("--path", str(engine.path), "--port", "0")
    assert second.returncode == 1
    assert second.stderr == f"another instance is already running on the data folder {engine.path}\n"


def test_a_port_in_use_ends_with_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        second = _run("--path", str(tmp_path / "data"), "--port", str(port))
    assert second.returncode == 1
    assert second.stderr.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert second.stderr.count("\n") == 1


def test_an_unusable_folder_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = _run("--path", str(tmp_path / "file" / "data"), "--port", "0")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "cannot use the data folder" in refused.stderr
    refused = _run("--path", str(tmp_path / "a?b"), "--port", "0")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_it_ends_with_its_standard_input_and_data_stay(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    _post(engine.url, b"CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a")
    _post(engine.url, b"INSERT INTO kept FORMAT CSV\n1\n2\n")
    assert engine.stop(None) == 0
    engine.start()
    try:
        assert _post(engine.url, b"SELECT sum(a) FROM kept") == b"3\n"
        assert engine.stop(signal.SIGTERM) == 0
    finally:
        engine.close()


def test_sigterm_cancels_a_long_read(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    try:
        with socket.create_connection(("127.0.0.1", int(engine.url.rpartition(":")[2]))) as sock:
            sql = b"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
            while _post(engine.url, b"SELECT count() FROM system.processes WHERE query LIKE '%sipHash64(%'") < b"2":
                pass
            assert engine.stop(signal.SIGTERM) == 0
    finally:
        engine.close()
    assert "Traceback" not in engine.log()


def test_limits_answer_413_and_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_ENGINE_MAX_BODY_BYTES", "100000")
    monkeypatch.setenv("LOGSTREAM_ENGINE_MAX_PENDING_BYTES", "120000")
    monkeypatch.setenv("LOGSTREAM_ENGINE_MAX_WAITING", "0")
    monkeypatch.setenv("LOGSTREAM_ENGINE_CONNECTIONS", "2")
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    port = int(engine.url.rpartition(":")[2])
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            _post(engine.url, b" " * 100_001)
        assert caught.value.code == 413
        assert b"100000 bytes" in caught.value.read()
        caught.value.close()
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n" + b" " * 80_000)
            with pytest.raises(urllib.error.HTTPError) as caught:  # the half body may not have been read yet
                _repeat(engine.url, b"SELECT 1" + b" " * 80_000)
            assert caught.value.code == 503
            caught.value.close()
        sql = b"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
        with socket.create_connection(("127.0.0.1", port)) as long:
            long.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
            with pytest.raises(urllib.error.HTTPError) as caught:
                _repeat(engine.url, b"SELECT 1")
            assert caught.value.code == 503
            assert caught.value.headers["X-ClickHouse-Exception-Code"] == "202"
            caught.value.close()
    finally:
        engine.close()


def test_memory_limits_are_the_engines(tmp_path: Path) -> None:
    engine = EngineProcess(tmp_path / "data", "--max-memory-bytes", str(256 * 1024 * 1024))
    engine.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            _post(engine.url, b"SELECT uniqExact(number) FROM numbers(100000000)")
        assert caught.value.headers["X-ClickHouse-Exception-Code"] == "241"
        caught.value.close()
        limit = _post(engine.url, b"SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'")
        assert limit == b"268435456\n"
    finally:
        engine.close()


def test_inserts_reads_and_cancels_side_by_side_survive_sigkill(tmp_path: Path) -> None:
    """What was answered 200 is there after SIGKILL; what was not is there whole or not at all."""
    engine = EngineProcess(tmp_path / "data")
    engine.start()
    setup = b"CREATE TABLE s (n UInt32, i UInt32) ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1"
    acknowledged: set[int] = set()
    rows = 500
    try:
        _post(engine.url, setup)
        for round_ in range(3):
            stop = threading.Event()
            threads = [
                threading.Thread(
                    target=_insert, args=(engine.url, round_ * 1_000_000 + k * 100_000, rows, acknowledged, stop)
                )
                for k in range(3)
            ] + [threading.Thread(target=_read_and_leave, args=(engine.url, stop)) for _ in range(3)]
            for thread in threads:
                thread.start()
            wanted = len(acknowledged) + 60
            while len(acknowledged) < wanted and any(t.is_alive() for t in threads):
                stop.wait(0.01)
            engine.kill()
            stop.set()
            for thread in threads:
                thread.join(60)
            engine.start()
            counts = _post(engine.url, b"SELECT n, count() FROM s GROUP BY n").decode().split()
            found = dict(zip(map(int, counts[::2]), map(int, counts[1::2]), strict=True))
            assert set(found.values()) == {rows}
            assert acknowledged <= set(found)
    finally:
        engine.close()
    assert len(acknowledged) >= 180


def _insert(url: str, first: int, rows: int, acknowledged: set[int], stop: threading.Event) -> None:
    number = first
    while not stop.is_set():
        body = b"INSERT INTO s FORMAT CSV\n" + b"".join(b"%d,%d\n" % (number, i) for i in range(rows))
        try:
            _post(url, body)
        except OSError:
            return
        acknowledged.add(number)
        number += 1


def _read_and_leave(url: str, stop: threading.Event) -> None:
    port = int(url.rpartition(":")[2])
    while not stop.is_set():
        sql = b"SELECT n, i, sipHash64(i) FROM s ORDER BY i, n FORMAT RowBinary"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
                sock.recv(1000)
        except OSError:
            return
