"""docs/client.md says what the client does: each program is run, and what it sent is compared."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.ingest import ingest

from logstream.record import Level, Record

DOCS = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"^```python run\n(.*?)\n```\n```json stored\n(.*?)\n```$", DOCS, re.MULTILINE | re.DOTALL)
WHERE = ("source", "logger", "exception.stacktrace")
"""Metadata that an example shows only where it matters."""


def test_all_examples_are_found() -> None:
    assert len(EXAMPLES) == DOCS.count("```python") == 4


@pytest.mark.parametrize("example", EXAMPLES, ids=["logging", "client", "structlog", "loguru"])
async def test_example(example: tuple[str, str], tmp_path: Path) -> None:
    program, stored = example
    expected: list[dict[str, Any]] = json.loads(stored)
    async with ingest(tmp_path) as world:
        environment = os.environ | {
            "LOGSTREAM_INGEST_URL": f"http://127.0.0.1:{world.port}",
            "LOGSTREAM_API_KEY": world.key,
        }
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program],
            check=False, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "logstream.client" not in done.stderr
        records = await world.records()
    assert [shown(record, like) for record, like in zip(records, expected, strict=True)] == expected


def shown(record: Record, like: dict[str, Any]) -> dict[str, Any]:
    """The record with the fields and the metadata that the example speaks of."""
    hidden = [name for name in WHERE if name not in like["metadata"]]
    found = {
        "service": record.service, "level": Level(record.level).label, "message": record.message,
        "trace_id": record.trace_id, "metadata": {k: v for k, v in record.metadata.items() if k not in hidden},
    }  # fmt: skip
    return found if record.trace_id or "trace_id" in like else {k: v for k, v in found.items() if k != "trace_id"}
