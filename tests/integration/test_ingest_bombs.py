"""Small bodies that become large: compressed ones, and nested names that are written out for every member."""

import asyncio
import gzip
import json
import resource
import sys
import zlib
from pathlib import Path

import pytest
from tests.support.ingest import ingest

from logstream.collector import app, publisher
from logstream.settings import MIB, IngestLimits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def repeating(rows: int, members: int = 120) -> bytes:
    """Records whose 250-byte outer name is repeated for each of their members, a different one in each record."""
    lines = []
    for number in range(rows):
        inner = {str(i): 1 for i in range(members)}
        lines.append(json.dumps({"msg": "", f"{number:06d}" * 41: inner}, separators=(",", ":")))
    return "\n".join(lines).encode()


async def test_a_block_far_larger_than_its_body_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_BLOCK_BYTES", 4 * MIB)
    async with ingest(tmp_path) as world:
        answer = await world.post(repeating(2_000))
        assert answer.status_code == 413
        assert answer.json()["error"]["limit"] == 4 * MIB
        assert (await world.post(repeating(20))).status_code == 202
        assert "logstream_ingest_pending_bytes 0.0" in (await world.client.get("/metrics")).text


async def test_what_a_block_has_over_its_body_counts_as_held(tmp_path: Path) -> None:
    limits = IngestLimits(max_pending_bytes=8 * MIB)
    async with ingest(tmp_path, limits=limits) as world:
        answer = await world.post(repeating(2_000))
        assert (answer.status_code, answer.json()["error"]["field"]) == (503, "max_pending_bytes")


@pytest.mark.parametrize("rows", [3, 150])
async def test_a_shared_block_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(publisher, "_FLUSH_BYTES", MIB)
    monkeypatch.setattr(publisher, "_SETTLE_BYTES", MIB // 4)
    body = repeating(rows)
    async with ingest(tmp_path) as world:
        answers = await asyncio.gather(*(world.post(body) for _ in range(600 // rows)))
        assert {a.status_code for a in answers} == {202}
        sizes = [len(m.value) for m in await world.bus.read(world.stream.topic, 0, 0, max_bytes=1 << 30)]
        assert max(sizes) < MIB + 2 * rows * 120 * 256
        assert len(await world.records()) == 600 // rows * rows


async def test_a_hundred_bombs_at_once_take_bounded_memory(tmp_path: Path) -> None:
    """Each is 1 GiB of spaces in a megabyte, or 63 MiB of records in a few kilobytes."""
    spaces = zlib.compressobj(9, wbits=31)
    gib = b"".join(spaces.compress(b" " * MIB) for _ in range(1024)) + spaces.flush()
    line = b'{"message":"' + b"a" * 1000 + b'"}\n'
    bombs = [
        (gib, "gzip"),
        (zstd.compress(line * (63 * MIB // len(line))), "zstd"),
        (gzip.compress(gib), "gzip, gzip"),
        (zlib.compress(b"[" * (63 * MIB)), "deflate"),
        (zstd.compress(b'{"message":"' + b"\xff" * (60 * MIB) + b'"}'), "zstd"),
    ]
    async with ingest(tmp_path) as world:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answers = await asyncio.gather(*(
            world.post(bombs[i % len(bombs)][0], content_encoding=bombs[i % len(bombs)][1]) for i in range(100)
        ))  # fmt: skip
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        assert {a.status_code for a in answers} <= {202, 400, 413, 503}
        assert grown < 512 * MIB, f"{grown / MIB:.0f} MiB"
        assert (await world.post('{"message":"still here"}')).status_code == 202
        assert "logstream_ingest_pending_bytes 0.0" in (await world.client.get("/metrics")).text


async def test_a_very_long_record_that_is_not_utf_8_is_refused_by_name(tmp_path: Path) -> None:
    body = b'{"message":"fine"}\n{"message":"' + b"\xff" * (17 * MIB) + b'"}'
    async with ingest(tmp_path) as world:
        answer = await world.post(zstd.compress(body), content_encoding="zstd")
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert answer.json()["rejected"][0]["code"] == "malformed_json"
        assert "utf-8" in answer.json()["rejected"][0]["reason"].lower()


async def test_thousands_of_empty_streams_are_read_to_their_end(tmp_path: Path) -> None:
    body = gzip.compress(b"") * 100_000 + gzip.compress(b'{"message":"at last"}')
    async with ingest(tmp_path) as world:
        answer = await world.post(body, content_encoding="gzip")
        assert (answer.status_code, answer.json().get("accepted")) == (202, 1)


async def test_lines_of_ten_megabytes_are_cut_with_a_mark_and_their_neighbours_are_whole(tmp_path: Path) -> None:
    long = json.dumps({"message": "x" * 10_000_000, "metadata": {"k": "v"}})
    async with ingest(tmp_path) as world:
        answer = await world.post(f'{{"message":"before"}}\n{long}\n{{"message":"after"}}')
        assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
        before, cut, after = await world.records()
        assert (before.message, after.message) == ("before", "after")
        assert cut.message == "x" * 262_144
        assert cut.metadata == {"k": "v", "logstream.truncated": "message"}
        broken = await world.post('{"message":"good"}\n{"message":"' + "y" * 10_000_000 + '\n{"message":"good"}')
        assert (broken.status_code, broken.json()["accepted"], broken.json()["rejected_count"]) == (202, 2, 1)
        answers = await asyncio.gather(*(world.post(long) for _ in range(20)))
        assert {a.status_code for a in answers} <= {202, 503}
