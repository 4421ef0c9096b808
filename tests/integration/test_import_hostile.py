"""`logstream import` of what is no log, of what changes or ends under it, and of runs that are ended: it says so, and
nothing is lost or doubled."""

import bz2
import gzip
import lzma
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from backports import zstd
from tests.support.collector import Collector, collecting
from tests.support.up import COMMAND, Cli

from logstream.cli.follow import MAX_LINE_BYTES

COUNT = 60_000
TEXT = b"".join(b"2023-01-01 00:00:%02d INFO line %d\n" % (i % 60, i) for i in range(COUNT))
MESSAGES = [f"line {i}" for i in range(COUNT)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


@pytest.fixture
def cli(tmp_path: Path, collector: Collector) -> Cli:
    made = Cli(tmp_path / "home")
    made.environment["LOGSTREAM_INGEST_URL"] = f"http://127.0.0.1:{collector.server_port}"
    made.environment["LOGSTREAM_API_KEY"] = "ls_test"
    return made


def messages(collector: Collector) -> list[str]:
    return [event["message"] for event in collector.events]


NO_TEXT = {
    "program": (b"\x7fELF\2\1\1" + bytes(9) + b"text\n", "is a program, not text"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is an image, not text"),
    "bzip2": (bz2.compress(TEXT), "is compressed (bzip2), not text; try: bzip2 -dc FILE | logstream import -"),
    "xz": (lzma.compress(TEXT), "is compressed (xz), not text; try: xz -dc"),
    "gzip in gzip": (gzip.compress(gzip.compress(TEXT)), "is compressed (gzip), not text"),
    "UTF-16": ("grüße\n".encode("utf-16"), "is UTF-16, not UTF-8; try: iconv -f UTF-16 -t UTF-8"),
    "UTF-32": ("grüße\n".encode("utf-32"), "is UTF-32, not UTF-8; try: iconv"),
    "zero bytes": (b"INFO a\n\0\n", "is not text (it has zero bytes)"),
    "the start of a gzip file": (gzip.compress(TEXT)[:5], "is damaged or not whole"),
    "the start of a zstd file": (zstd.compress(TEXT)[:5], "is damaged or not whole"),
    "a broken gzip file": (gzip.compress(TEXT)[:100] + bytes(100), "is damaged or not whole"),
    "a broken zstd file": (zstd.compress(TEXT)[:12] + b"\xff" * 1_000, "is damaged or not whole"),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_TEXT)
def test_what_is_no_text_is_refused_and_nothing_is_sent(cli: Cli, collector: Collector, what: str) -> None:
    content, sentence = NO_TEXT[what]
    (cli.home / "good.log").write_bytes(TEXT)
    (cli.home / "bad.log").write_bytes(content)
    done = cli.run("import", "good.log", "bad.log")
    assert done.returncode in (1, 2)
    assert f"bad.log {sentence}" in done.stderr
    assert "Traceback" not in done.stderr
    assert collector.bodies == {}


def test_standard_input_that_is_no_text_is_refused(cli: Cli, collector: Collector) -> None:
    done = cli.run("import", "-", stdin=gzip.compress(TEXT))
    assert done.returncode == 2
    assert "standard input is compressed (gzip), not text; try: gzip -dc" in done.stderr
    assert collector.bodies == {}


def test_of_a_folder_what_is_no_log_is_left_out_and_said(cli: Cli, collector: Collector) -> None:
    folder = cli.home / "logs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.log").write_text("INFO first\n")
    (folder / "deep" / "b.log").write_text("INFO second\n")
    (folder / "empty").touch()
    (folder / "wtmp").write_bytes(bytes(384))
    (folder / "old.gz").write_bytes(gzip.compress(TEXT)[:20])
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "gone.log").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "s"))
        done = cli.run("import", "logs")
    assert done.returncode == 1
    assert "2 accepted" in done.stdout
    assert sorted(messages(collector)) == ["INFO first", "INFO second"]
    assert "left out: logs/wtmp is not text" in done.stderr
    assert "left out: logs/old.gz is damaged" in done.stderr


def test_a_pipe_that_is_named_is_no_file(cli: Cli, collector: Collector) -> None:
    os.mkfifo(cli.home / "fifo")
    done = cli.run("import", "fifo")
    assert done.returncode == 2
    assert "fifo is no file but a pipe, socket or device" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_said(cli: Cli, collector: Collector) -> None:
    (cli.home / "logs" / "closed").mkdir(parents=True)
    (cli.home / "logs" / "good.log").write_text("INFO first\n")
    (cli.home / "logs" / "secret.log").write_text("INFO second\n")
    (cli.home / "logs" / "secret.log").chmod(0)
    (cli.home / "logs" / "closed").chmod(0)
    try:
        done = cli.run("import", "logs")
    finally:
        (cli.home / "logs" / "closed").chmod(0o700)
    assert done.returncode == 1
    assert messages(collector) == ["INFO first"]
    assert "cannot read logs/secret.log: Permission denied" in done.stderr
    assert "cannot read logs/closed: Permission denied" in done.stderr


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_a_compressed_file_that_is_not_whole_yet_goes_on_when_it_is(
    cli: Cli, collector: Collector, compress: object
) -> None:
    assert callable(compress)
    whole = compress(TEXT)
    log = cli.home / "app.log.gz"
    log.write_bytes(whole[: len(whole) * 4 // 5])
    broken = cli.run("import", log.name)
    assert broken.returncode == 1
    assert "app.log.gz is damaged or not whole" in broken.stderr
    sent = len(collector.events)
    assert f"{sent:,} accepted" in broken.stdout
    log.write_bytes(whole)
    cli("import", log.name)
    assert messages(collector) == MESSAGES


def test_encodings_side_by_side_and_zero_bytes_far_behind(cli: Cli, collector: Collector) -> None:
    odd = ["INFO grüße".encode(), "INFO grüße".encode("latin-1"), b"INFO a\0b", "INFO ü".encode("utf-16"), b"\xff" * 9]
    (cli.home / "app.log").write_bytes(b"INFO plain\n" * 30_000 + b"\n".join(odd) + b"\n")
    cli("import", "app.log")
    found = messages(collector)
    assert len(found) >= 30_005
    assert found[30_000:30_003] == ["INFO grüße", "INFO gr\\xfc\\xdfe", "INFO a\0b"]
    assert found[30_003].startswith("\\xff\\xfeI\0N\0F\0O\0")


def test_clocks_that_jump_keep_what_each_line_says(cli: Cli, collector: Collector) -> None:
    stamps = ["2023-05-01T10:00:00Z", "2019-01-01T00:00:00Z", "2023-03-26T02:30:00+01:00", "1970-01-01T00:00:00Z",
              "2023-10-29T02:30:00+02:00", "2023-10-29T02:30:00+01:00", "2023-05-01T10:00:00Z"]  # fmt: skip
    (cli.home / "app.log").write_text("".join(f"{stamp} INFO x {i}\n" for i, stamp in enumerate(stamps)))
    cli("import", "app.log")
    told = [event["timestamp"] for event in collector.events]
    assert len(told) == len(stamps)
    assert (told[0], told[1]) == (told[6], 1_546_300_800 * 10**9)
    assert told[5] - told[4] == 3600 * 10**9
    assert told[3] == "1970-01-01T00:00:00.000000000Z"


@pytest.mark.parametrize("broken", [False, True], ids=["at once", "in two runs"])
def test_what_has_no_time_has_the_one_before_it_in_every_batch(cli: Cli, collector: Collector, broken: bool) -> None:
    lines = [f"0000-00-00 00:00:00 INFO line {i} {'x' * 60}" for i in range(40_000)]
    (cli.home / "app.log").write_text("\n".join(["2023-01-01 00:00:00 INFO x", *lines]))
    if broken:
        collector.healthy = 2
        assert cli.run("import", "app.log", "--retry-for", "0").returncode == 1
        collector.healthy = 1_000_000
    cli("import", "app.log")
    assert len(collector.bodies) > 3
    assert messages(collector) == ["x", *lines]
    assert {event["timestamp"] for event in collector.events} == {1_672_531_200 * 10**9}
    assert {event["level"] for event in collector.events} == {"info"}


def test_a_year_that_is_not_written_turns_with_the_file(cli: Cli, collector: Collector) -> None:
    log = cli.home / "messages"
    log.write_text("Dec 31 23:59:59 h a: old\nJan  1 00:00:01 h a: new\n")
    os.utime(log, (1_704_067_300, 1_704_067_300))  # 2024-01-01
    cli("import", "messages")
    assert [event["timestamp"] // 10**9 for event in collector.events] == [1_704_067_199, 1_704_067_201]


def peak(cli: Cli, *arguments: str) -> int:
    """Largest resident memory of a command that succeeds, in KiB."""
    # From a small process: a program begins with the peak of the one that starts it.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, *COMMAND, *arguments],
        check=True, env=cli.environment, cwd=cli.home, stdout=subprocess.PIPE,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.parametrize("arguments", [("import", "app.log"), ("import", "app.log.gz")], ids=["plain", "gzip"])
def test_a_line_without_end_is_cut_and_memory_stays_the_same(
    cli: Cli, collector: Collector, arguments: tuple[str, ...]
) -> None:
    peaks = []
    for pieces in (2, 6):
        line = b"2023-01-01 00:00:00 INFO " + b"x" * (pieces * MAX_LINE_BYTES - 25)
        name = cli.home / arguments[1]
        name.write_bytes(gzip.compress(line, 1) if name.suffix == ".gz" else line)
        collector.bodies.clear()
        peaks.append(peak(cli, *arguments, "--restart"))
        assert len(collector.events) == pieces
        assert all(event["metadata"]["truncated"] == "true" for event in collector.events)
        assert {event["timestamp"] for event in collector.events} == {1_672_531_200 * 10**9}
    print(peaks)
    assert peaks[1] - peaks[0] < 24 * 1024


@pytest.mark.parametrize("what", ["removed", "cut short", "emptied"])
def test_a_file_that_goes_away_while_it_is_read(cli: Cli, collector: Collector, what: str) -> None:
    log = cli.home / "app.log"
    log.write_bytes(TEXT)

    def change(number: int) -> None:
        if number == 2:
            if what == "removed":
                log.unlink()
            else:
                os.truncate(log, len(TEXT) // 4 if what == "cut short" else 0)

    collector.before = change
    done = cli.run("import", "app.log")
    found = messages(collector)
    assert found == MESSAGES[: len(found)]
    if what == "removed":
        assert len(found) == COUNT
        assert done.returncode == 0
    else:
        assert len(found) < COUNT
        assert "app.log was changed while it was read; what it holds now is not sent" in done.stderr
        assert done.returncode == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_and_doubles_nothing(cli: Cli, collector: Collector, sent: signal.Signals) -> None:
    (cli.home / "app.log").write_bytes(TEXT)
    processes: list[subprocess.Popen[bytes]] = []
    collector.before = lambda number: processes[0].send_signal(sent) if number == 2 else None
    with cli.background("import", "app.log") as process:
        processes.append(process)
        process.wait(30)
    assert process.returncode == {signal.SIGINT: 130}.get(sent, -sent)
    assert 0 < len(collector.events) < COUNT
    cli("import", "app.log")
    assert messages(collector) == MESSAGES


def test_a_key_that_is_revoked_half_way_is_said_and_another_goes_on(cli: Cli, collector: Collector) -> None:
    (cli.home / "app.log").write_bytes(TEXT)
    collector.healthy, collector.refusal = 2, (401, "unauthenticated", "the API key has been revoked")
    broken = cli.run("import", "app.log")
    assert broken.returncode == 1
    assert "the API key has been revoked" in broken.stderr
    assert f"{len(collector.events):,} accepted" in broken.stdout
    collector.healthy = 1_000_000
    cli.environment["LOGSTREAM_API_KEY"] = "ls_new"
    cli("import", "app.log", "--old-key", "ls_test")
    assert messages(collector) == MESSAGES


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_lines_that_are_stored_in_pieces_are_counted(cli: Cli, collector: Collector, compress: object) -> None:
    assert callable(compress)
    fits, cut = b"x" * MAX_LINE_BYTES, b"y" * (3 * MAX_LINE_BYTES + 9)
    said = "1 line was longer than 8 MiB and is stored in 4 pieces"
    (cli.home / "a.log").write_bytes(compress(b"short\n" + fits + b"\nshort\n" + cut + b"\nshort\n"))
    dry = cli.run("import", "--dry-run", "a.log")
    assert (dry.returncode, said in dry.stderr) == (0, True)
    done = cli.run("import", "a.log", "--quiet")
    assert (done.returncode, said in done.stderr) == (0, True)
    assert [m[0] for m in messages(collector)] == ["s", "x", "s", "y", "y", "y", "y", "s"]


def test_lines_that_fit_are_not_said_to_be_cut(cli: Cli, collector: Collector) -> None:
    (cli.home / "a.log").write_bytes(b"x" * (MAX_LINE_BYTES - 1) + b"\n" + b"y" * MAX_LINE_BYTES)
    assert "MiB" not in cli.run("import", "a.log").stderr
    assert len(collector.events) == 2
    piped = cli.run("import", "-", stdin=b"y" * (MAX_LINE_BYTES + 1))
    assert "1 line was longer than 8 MiB and is stored in 2 pieces" in piped.stderr
