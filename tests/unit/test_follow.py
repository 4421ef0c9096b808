"""Files through every kind of rotation: each line once, in order, whatever happens between two looks."""

import gzip
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstream.cli import follow
from logstream.cli.failure import Failure
from logstream.cli.follow import LogFile
from logstream.cli.position import Position, PositionFile

OPEN: list["Reader"] = []


@pytest.fixture(autouse=True)
def close_files() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().stop()


class Reader:
    """Follows a file, acknowledges everything, remembers lines and keys; `stop` and `start` are two processes."""

    def __init__(self, path: Path, *, follows: bool = True, from_end: bool = False) -> None:
        self.path = path
        self.follows = follows
        self.from_end = from_end
        self.now = 0.0
        self.lines: list[bytes] = []
        self.keys: list[str] = []
        self.said: list[str] = []
        self.places = PositionFile(path.parent / "state" / "position.json")
        OPEN.append(self)
        self.start()

    def start(self) -> None:
        self.file = LogFile(
            self.path, self.places.load(), follow=self.follows, from_end=self.from_end,
            say=self.said.append, monotonic=lambda: self.now,
        )  # fmt: skip

    def stop(self) -> None:
        self.file.close()

    def look(self) -> list[bytes]:
        """What is new until nothing comes any more, also after the grace for rotated files."""
        before = len(self.lines)
        for _ in range(4):
            while (chunk := self.file.next()) is not None:
                self.places.save(chunk.position)
                self.lines += chunk.lines()
                self.keys.append(chunk.position.key())
                self.places.save(self.file.done(chunk))
            self.now += follow.ROTATION_GRACE
        return self.lines[before:]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def older(path: Path, seconds: float) -> None:
    """Give `path` an earlier time of change, as if it had been written then."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - int(seconds * 1e9)))


def test_lines_come_once_and_only_when_they_are_whole(log: Path) -> None:
    log.write_text("one\ntw")
    reader = Reader(log)
    assert reader.look() == [b"one"]
    append(log, "o\nthree\n")
    assert reader.look() == [b"two", b"three"]
    assert reader.look() == []


def test_a_file_that_comes_later(log: Path) -> None:
    reader = Reader(log)
    assert reader.look() == []
    log.write_text("one\n")
    assert reader.look() == [b"one"]


def test_from_the_end(log: Path) -> None:
    log.write_text("old\n")
    reader = Reader(log, from_end=True)
    assert reader.look() == []
    append(log, "new\n")
    assert reader.look() == [b"new"]


def test_renamed_and_made_again(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    log.rename(log.with_name("app.log.1"))
    append(log.with_name("app.log.1"), "two\nrest")
    log.write_text("three\n")
    assert reader.look() == [b"two", b"rest", b"three"]


def test_the_old_file_is_left_only_when_its_writer_is_quiet(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    log.rename(log.with_name("app.log.1"))
    log.write_text("three\n")
    assert reader.file.next() is None
    append(log.with_name("app.log.1"), "two\n")
    assert reader.look() == [b"two", b"three"]


def test_copied_and_truncated(log: Path) -> None:
    log.write_text("the first line is long enough to know the file by\n")
    reader = Reader(log)
    reader.look()
    append(log, "two\n")
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    append(log, "three\n")
    assert reader.look() == [b"two", b"three"]


def test_truncated_and_grown_past_the_old_place_between_two_looks(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    log.write_text("another beginning\nand more\n")
    assert reader.look() == [b"another beginning", b"and more"]
    assert len(reader.said) == 1


def test_equal_lines_after_a_truncation_are_not_taken_for_a_repeat(log: Path) -> None:
    log.write_text("same\n")
    reader = Reader(log)
    reader.look()
    os.truncate(log, 0)
    reader.look()
    append(log, "same\n")
    assert reader.look() == [b"same"]
    assert len(set(reader.keys)) == len(reader.keys) == 2


def test_removed_and_made_again(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    log.unlink()
    assert reader.look() == []
    log.write_text("two\n")
    assert reader.look() == [b"two"]


def test_a_new_run_goes_on_where_the_last_one_stopped(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    reader.stop()
    append(log, "two\n")
    reader.start()
    assert reader.look() == [b"two"]


def test_a_run_broken_off_repeats_the_same_range_under_the_same_key(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    chunk = reader.file.next()
    assert chunk is not None
    reader.places.save(chunk.position)
    reader.stop()
    append(log, "two\n")
    reader.start()
    again = reader.file.next()
    assert again is not None
    assert (again.data, again.position.key()) == (b"one\n", chunk.position.key())
    reader.stop()
    reader.start()
    assert reader.look() == [b"one", b"two"]


@pytest.mark.parametrize("compress", [False, True])
def test_rotated_several_times_while_nobody_followed(log: Path, compress: bool) -> None:
    log.write_text("the first line is long enough to know the file by\n")
    reader = Reader(log)
    reader.look()
    reader.stop()
    append(log, "two\n")
    oldest, between = log.with_name("app.log.2"), log.with_name("app.log.1")
    log.rename(oldest)
    older(oldest, 20)
    if compress:
        packed = log.with_name("app.log.2.gz")
        with gzip.open(packed, "wb") as file:
            file.write(oldest.read_bytes())
        os.utime(packed, ns=(oldest.stat().st_atime_ns, oldest.stat().st_mtime_ns))
        oldest.unlink()
    between.write_text("three\n")
    older(between, 10)
    log.write_text("four\n")
    log.with_name("app.log.notes").write_text("not a log\n")
    reader.start()
    assert reader.look() == [b"two", b"three", b"four"]


def test_two_rotations_between_two_looks(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    log.rename(log.with_name("app.log.2"))
    older(log.with_name("app.log.2"), 20)
    log.with_name("app.log.1").write_text("two\n")
    older(log.with_name("app.log.1"), 10)
    log.write_text("three\n")
    assert reader.look() == [b"two", b"three"]


def test_a_rotated_file_that_is_gone_is_said(log: Path) -> None:
    log.write_text("one\n")
    reader = Reader(log)
    reader.look()
    reader.stop()
    log.unlink()
    log.with_name("app.log").write_text("another\n")
    reader.start()
    assert reader.look() == [b"another"]
    assert ["that part is gone" in line for line in reader.said] == [True]


def test_once_ends_with_the_last_line_even_without_its_newline(log: Path) -> None:
    log.write_text("one\n\ntwo")
    reader = Reader(log, follows=False)
    assert reader.look() == [b"one", b"", b"two"]
    assert reader.file.finished


def test_once_needs_the_file(log: Path) -> None:
    with pytest.raises(Failure, match="there is no file"):
        Reader(log, follows=False).look()


def test_a_damaged_archive_is_said(log: Path) -> None:
    packed = log.with_name("app.log.gz")
    packed.write_bytes(gzip.compress(b"line\n" * 1000)[:-10])
    with pytest.raises(Failure, match="damaged or not whole"):
        Reader(packed, follows=False).look()


def test_an_archive_goes_on_where_it_stopped(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BATCH_BYTES", 100)
    lines = [f"line {i}".encode() for i in range(100)]
    packed = log.with_name("app.log.gz")
    packed.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    reader = Reader(packed, follows=False)
    chunk = reader.file.next()
    assert chunk is not None
    reader.lines += chunk.lines()
    reader.places.save(reader.file.done(chunk))
    reader.stop()
    reader.start()
    reader.look()
    assert reader.lines == lines


def test_a_long_line_is_cut_and_kept(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "BATCH_BYTES", 10)
    monkeypatch.setattr(follow, "MAX_LINE_BYTES", 25)
    log.write_bytes(b"a" * 60 + b"\nshort\n" + b"b" * 20 + b"\n")
    reader = Reader(log)
    assert reader.look() == [b"a" * 25, b"a" * 25, b"a" * 10, b"short", b"b" * 20]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.binary(max_size=40)),
            st.sampled_from([("rename", b""), ("copytruncate", b""), ("look", b""), ("break", b"")]),
        ),
        max_size=14,
    )
)
def test_any_sequence_of_writes_rotations_and_breaks_loses_and_doubles_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes]]
) -> None:
    log = tmp_path_factory.mktemp("f") / "app.log"
    expected: list[bytes] = []
    number = rotations = 0
    log.write_bytes(b"")
    reader = Reader(log)
    reader.look()
    for action, data in steps:
        if action == "write":
            number += 1
            line = f"line number {number} with enough text to be known by ".encode() + data.hex().encode()
            expected.append(line)
            with log.open("ab") as file:
                file.write(line + b"\n")
        elif action == "look":
            reader.look()
        elif action == "break":
            reader.stop()
            reader.start()
        elif log.stat().st_size:
            # As rotation does it: never twice between two looks, and the content is read before it is cut.
            reader.look()
            rotations += 1
            if action == "rename":
                log.rename(log.with_name(f"app.log.{rotations}"))
                log.write_bytes(b"")
            else:
                shutil.copy(log, log.with_name(f"app.log.{rotations}"))
                os.truncate(log, 0)
            reader.look()
    reader.look()
    reader.stop()
    assert reader.lines == expected
    assert len(set(reader.keys)) == len(reader.keys)


def test_positions_of_other_destinations_are_apart(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    assert PositionFile.of(log, "a").path != PositionFile.of(log, "b").path
    assert PositionFile.of(log, "a", folder=tmp_path).path.parent == tmp_path


def test_a_position_that_is_none_is_said(tmp_path: Path) -> None:
    places = PositionFile(tmp_path / "p.json")
    assert places.load() is None
    places.path.write_text('{"offset": 3}')
    with pytest.raises(Failure, match="is not a position"):
        places.load()


def test_a_plan_is_done_once(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("x\n")
    file = LogFile(log, None, follow=False)
    chunk = file.next()
    assert chunk is not None
    done = file.done(chunk)
    assert isinstance(done, Position)
    assert (done.offset, done.planned) == (2, None)
    file.close()
