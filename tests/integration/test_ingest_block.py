"""Blocks as ClickHouse's engine reads them."""

import json

import httpx
import pytest
from tests.support.engine import EngineProcess

from logstream.record import Batch, Record
from logstream.storage import block

ROWS = 3000


def records() -> list[Record]:
    """Lengths of one and of two bytes, dictionaries of one and of two, rows without metadata."""
    return [
        Record(
            1_700_000_000_000_000_000 + i,
            f"svc{i % 300}",
            i % 6 + 1,
            f"message {i} " + "é" * (i % 150),
            {f"k{i % 3}": str(i), "z": "y" * (i % 400)} if i % 7 else {},
            f"{i:032x}" if i % 2 else "",
        )
        for i in range(ROWS)
    ]


@pytest.mark.engine
def test_encoded_and_built_blocks_arrive_whole(engine: EngineProcess) -> None:
    rows = records()
    builder = block.Builder()
    for start in range(0, ROWS, 1000):
        builder.add(Batch.of(rows[start : start + 1000]))
    parts: list[bytes | memoryview] = []
    parts += block.seal(block.encode(Batch.of(rows)), ROWS, block.Provenance(5, [("k", 400), ("l", 2600)], 7, 3, 1))
    keys = [(f"key{i}", 10) for i in range(300)]
    parts += block.seal(builder.body(), ROWS, block.Provenance(6, keys, 7, 3, 2))
    columns = ", ".join(f"`{name}` {kind}" for name, kind in block.COLUMNS + block.PROVENANCE)

    def run(sql: str, content: bytes = b"") -> str:
        response = httpx.post(engine.url, params={"query": sql}, content=content, timeout=60, trust_env=False)
        assert response.status_code == 200, response.text
        return response.text

    run("CREATE DATABASE IF NOT EXISTS ingest_block")
    run(f"CREATE OR REPLACE TABLE ingest_block.logs ({columns}) ENGINE = MergeTree ORDER BY (offset, row)")
    run("INSERT INTO ingest_block.logs FORMAT Native", b"".join(parts))
    for offset, senders in ((1, [("k", 400), ("l", 2600)]), (2, keys)):
        text = run(
            "SELECT toString(toUnixTimestamp64Nano(timestamp)), service, CAST(level, 'Int8'), message,"
            " metadata, trace_id, span_id, key_id FROM ingest_block.logs"
            f" WHERE offset = {offset} ORDER BY row FORMAT JSONCompactEachRow"
        )
        found = [json.loads(line) for line in text.splitlines()]
        expected_keys = [key for key, n in senders for _ in range(n)]
        assert [row[7] for row in found] == expected_keys
        assert [Record(int(row[0]), *row[1:7]) for row in found] == rows
    run("DROP DATABASE ingest_block")
