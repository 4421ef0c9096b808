"""The engine reduces messages to the same shapes as Python."""

import random

import pytest
from tests.support.engine import EngineProcess
from tests.support.templates import PROGRAMS, labelled

from logstream.query.patterns import ShapeCounter, shape_of, shape_sql
from logstream.query.patterns.shape import HEAD_CHARACTERS
from logstream.record import Batch, Record
from logstream.settings import StoreSettings
from logstream.storage import block
from logstream.storage.schema import CREATE_LOGS
from logstream.storage.store import Store
from logstream.stream import make_stream

pytestmark = pytest.mark.engine


def _messages() -> list[str]:
    dice = random.Random(11)
    pieces = ["a", "1", "-", ".", "_", " ", "\t", "\n", "\v", "\r", "\0", "ü", "\u00a0", "\u2028", "🙂", "<*>", "\\",
              "'", "x9", "$1", "\\0"]  # fmt: skip
    made = ["".join(dice.choices(pieces, k=dice.randint(0, 12))) for _ in range(3_000)]
    long = [
        "".join(dice.choices(pieces, k=dice.randint(HEAD_CHARACTERS - 40, HEAD_CHARACTERS + 40))) for _ in range(200)
    ]
    cut = ["é" * k + tail for k in range(HEAD_CHARACTERS - 3, HEAD_CHARACTERS + 3) for tail in ("", "\n", " ", "1\n2")]
    words = [" ".join(dice.choices(["word", "17", "größe", "a1"], k=k)) for k in range(150, 450, 7)]
    return [*made, *long, *cut, *words, *(line for name in PROGRAMS for line, _ in labelled(name, 300))]


async def test_engine_and_python_make_the_same_shapes(engine: EngineProcess) -> None:
    messages = _messages()
    batch = Batch.of([Record(1_790_000_000 * 10**9, "s", 3, message, {}) for message in messages])
    stream = make_stream("pattern-shapes")
    store = await Store.connect(StoreSettings(url=engine.url))
    try:
        await store.command(f"CREATE DATABASE {stream.database}")
        await store.command(CREATE_LOGS.format(database=stream.database))
        source = block.Provenance(1_790_000_000 * 10**9, [("k", len(batch))], 1, 0, 0)
        await store.insert(stream, block.seal(block.encode(batch), len(batch), source), rows=len(batch), token="pool")
        shape = shape_sql("message")
        rows = (await store.query(f"SELECT row, {shape} FROM {stream.database}.logs ORDER BY row")).rows
        assert [(row, text, messages[row]) for row, text in rows if text != shape_of(messages[row])] == []
        assert len(rows) == len(messages)
        counted = await store.query(f"SELECT {shape} AS shape, count() FROM {stream.database}.logs GROUP BY shape")
        counter = ShapeCounter()
        counter.add(messages)
        assert dict(counted.rows) == {text: seen.count for text, seen in counter.shapes.items()}
    finally:
        await store.close()
