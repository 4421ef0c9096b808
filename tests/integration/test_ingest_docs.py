"""docs/ingest.md says what the collector does."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.ingest import Ingest, ingest

from logstream.collector.decode.lenient import ALIASES
from logstream.record import Level
from logstream.settings import IngestLimits

DOCS = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()
BLOCK = re.compile(r"^```json (send|answer \d+|stored)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    sent: str
    status: int = 202
    answer: Any = None
    stored: list[dict[str, Any]] | None = None


def examples() -> list[Example]:
    found: list[Example] = []
    for kind, text in BLOCK.findall(DOCS):
        if kind == "send":
            found.append(Example(text))
        elif kind == "stored":
            found[-1].stored = json.loads(text)
        else:
            found[-1].status, found[-1].answer = int(kind.split()[1]), json.loads(text)
    return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest(tmp_path) as running:
        yield running


async def test_examples(world: Ingest) -> None:
    assert len(examples()) >= 6
    for example in examples():
        before = len(await world.records())
        response = await world.post(example.sent)
        assert response.status_code == example.status, example.sent
        if example.answer is not None:
            assert response.json() == example.answer
        if example.stored is not None:
            new = (await world.records())[before:]
            assert len(new) == len(example.stored)
            for record, expected in zip(new, example.stored, strict=True):
                shown = {
                    "timestamp": record.timestamp,
                    "service": record.service,
                    "level": Level(record.level).label,
                    "message": record.message,
                    "metadata": record.metadata,
                }
                assert {name: shown[name] for name in expected} == expected


def table(after: str) -> list[list[str]]:
    lines = DOCS.split(after, 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_aliases_are_those_of_the_code() -> None:
    documented = {row[0].strip("`"): re.findall(r"`([^`]+)`", row[1].split(";")[0]) for row in table("### Other names")}
    assert documented == {field: list(names) for field, names in ALIASES.items()}


def test_limits_are_those_of_the_code() -> None:
    documented = {row[0].strip("`"): row[1] for row in table("## Limits")}
    assert documented == {name: str(field.default) for name, field in IngestLimits.model_fields.items()}
