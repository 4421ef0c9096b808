"""Values and words at the borders of the indexes `pairs` and `words`: the engine finds what a plain filter finds.

In every kind of part: written today, merged, from before there were these indexes, and all of them side by side.
"""

import random
import re
import string
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.engine import EngineProcess
from tests.support.table import Table

from logstream.query.language import nodes as n
from logstream.query.language import selector
from logstream.query.language.sql import Parameters, filter_sql
from logstream.record import Batch, Record
from logstream.storage import block, schema
from logstream.storage.store import Store

pytestmark = pytest.mark.engine

RECEIVED = 1_790_000_000 * 10**9
KEYS = ["k", "a", "a=", "=a", "=", "", "a=b", "b", "ü", "ключ", "nul\0key", "k\0", "K", "service", "x" * 300, "'", "\\"]
EDGE, DIGITS = schema.PAIR_MAX_BYTES, schema.PAIR_MAX_DIGITS_BYTES
VALUES = [
    *("v" * length for length in (1, EDGE - 1, EDGE, EDGE + 1, 5_000)),
    *("1234567"[:length] for length in range(1, 8)),
    *(first + "x" * (length - 1) for first in "09/:-+" for length in (DIGITS, DIGITS + 1, EDGE, EDGE + 1)),
    # One character lies across the limit.
    *("v" * (EDGE - cut) + character for character in "ü日🙂" for cut in (0, 1, 2, 3, 4)),
    *("1" * (DIGITS - cut) + character for character in "ü日🙂" for cut in (0, 1, 2, 3, 4)),
    "٣", "٣" * 3, "²", "", " ", "\0", "v\0", "\0v", "1\0002345", "=", "b=", "=b", "b=c", "a=b=c", "c", "ä", "a\u0308",
    "Ä", "K", "\u212a", "k", "'", "\\", "%", "[]", "\n", "\ufeff", "\x7f", "\x80", "\U0010ffff",
]  # fmt: skip
WORDS = [
    "a", "A", "web", "WEB", "web1", "1web", "web12", "web_1", "_web", "web_", "w", "webs", "0", "00", "000", "1", "12",
    "a0", "a1", "a10", "kelvin", "\u212aelvin", "Kelvin", "ſet", "set", "straße", "STRASSE", "ä", "a\u0308", "cafe",
    "cafe\u0301", "café", "web日本", "日本web", "日本", "İ", "i\u0307", "ı", "ΟΔΟΣ", "x" * 999, "x" * 1_000,
    "x" * 1_001, "X" * 5_000, "x" * 70_000, "1" * 1_500, "ab" * 600 + "c", "\ufb01x", "ª", "web\u200d", "web\xa0", "ǅ",
    "ꭰ", "web\u0080",
]  # fmt: skip
SEPARATORS = [" ", "-", "_", ".", "\0", "\n", "=", "/", "\u3000", "\u2028", "'", "\\", ""]


def _pool() -> list[Record]:
    rng = random.Random(4)

    def message() -> str:
        return "".join(rng.choice(WORDS[:-9]) + rng.choice(SEPARATORS) for _ in range(rng.randint(0, 4)))

    records = [Record(RECEIVED, "s", 3, word, {}) for word in (*WORDS, *(w.swapcase() for w in WORDS))]
    records += [Record(RECEIVED, "s", 3, f"-{word}_", {}) for word in WORDS]
    records += [Record(RECEIVED, "s", 3, message(), {key: value}) for key in KEYS for value in VALUES]
    records += [
        Record(RECEIVED, "s", 3, message(), {key: rng.choice(VALUES) for key in rng.sample(KEYS, rng.randint(2, 8))})
        for _ in range(500)
    ]
    rng.shuffle(records)
    return records


POOL = _pool()
BATCH = Batch.of(POOL)
LAYOUTS = ["fresh", "merged", "from before", "side by side"]


class Parts(Table):
    """POOL, in parts of the layout given."""

    def __init__(self, url: str, layout: str) -> None:
        self._layout = layout
        super().__init__(url, f"borders-{layout.replace(' ', '-')}", POOL, granularity=4)

    async def _fill(self, url: str, batch: Batch, granularity: int | None, merged: bool) -> Store:
        first = await super()._fill(url, Batch.of(POOL[:1]), granularity, merged=False)
        old = len(POOL) * {"from before": 3, "side by side": 1}.get(self._layout, 0) // 3
        if old:
            for statement in ("DROP INDEX words", "DROP INDEX pairs", "DROP COLUMN pairs"):
                await first.command(f"ALTER TABLE {self.name} {statement}")
        await first.command(f"SYSTEM STOP MERGES {self.name}")
        if old:
            await self._insert(first, 1, old)
            for sql in schema.ADD_INDEXES:
                await first.command(sql.replace("{database}", self.stream.database))
        rest = range(max(old, 1), len(POOL))
        half = len(rest) // 2
        await self._insert(first, rest.start, rest.start + half)
        if self._layout in ("merged", "side by side"):
            await first.command(f"SYSTEM START MERGES {self.name}")
            await first.command(f"OPTIMIZE TABLE {self.name} FINAL")
            await first.command(f"SYSTEM STOP MERGES {self.name}")
        await self._insert(first, rest.start + half, rest.stop)
        if self._layout == "merged":
            await first.command(f"SYSTEM START MERGES {self.name}")
            await first.command(f"OPTIMIZE TABLE {self.name} FINAL")
        return first

    async def _insert(self, store: Store, begin: int, end: int) -> None:
        if begin >= end:
            return
        batch = Batch.of(POOL[begin:end])
        source = block.Provenance(RECEIVED, [("k", len(batch))], 1, 0, begin)
        sealed = block.seal(block.encode(batch), len(batch), source)
        await store.insert(self.stream, sealed, rows=len(batch), token=f"from {begin}")

    def numbers(self, *asked: n.Filter) -> list[list[int]]:
        """For each filter, the indexes in POOL of the lines found: in one statement, since each has its price."""
        parameters = Parameters()
        reads = [
            f"SELECT {i} AS which, offset + row AS found FROM {self.name} WHERE {filter_sql(one, parameters)}"
            for i, one in enumerate(asked)
        ]
        sql = f"SELECT which, arraySort(groupArray(found)) FROM ({' UNION ALL '.join(reads)}) GROUP BY which"
        found = dict(self.query(sql, parameters.values))
        return [found.get(which, []) for which in range(len(asked))]


@pytest.fixture(scope="module", params=LAYOUTS)
def parts(request: pytest.FixtureRequest, engine: EngineProcess) -> Iterator[Parts]:
    table = Parts(engine.url, request.param)
    yield table
    table.close()


def _pairs(key: str, values: Sequence[str]) -> list[int]:
    return [i for i, record in enumerate(POOL) if record.metadata.get(key) in values]


def _key(key: str) -> n.Field:
    return n.Field("metadata", key)


def test_the_table_holds_the_pool(parts: Parts) -> None:
    everything, with_k = parts.numbers(n.Everything(), n.Exists(_key("k")))
    assert everything == list(range(len(POOL)))
    assert with_k == [i for i, record in enumerate(POOL) if "k" in record.metadata]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:12])
def test_every_value_of_a_key_is_found_exactly(parts: Parts, key: str) -> None:
    for values in _batched(VALUES, 25):
        found = parts.numbers(*(n.Equals(_key(key), value) for value in values))
        for value, numbers in zip(values, found, strict=True):
            assert numbers == _pairs(key, [value]), value


@settings(max_examples=10, deadline=None)
@given(
    key=st.sampled_from(KEYS),
    values=st.lists(st.sampled_from(VALUES) | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
                    min_size=2, max_size=4),
)  # fmt: skip
@example(key="a", values=["b=c", "c"])
@example(key="a=b", values=["c", "=b"])
@example(key="", values=["c", "=c"])
def test_sets_of_values_and_their_complements(parts: Parts, key: str, values: list[str]) -> None:
    asked = n.Or(tuple(n.Equals(_key(key), value) for value in values))
    wanted = _pairs(key, values)
    others = sorted(set(range(len(POOL))) - set(wanted))
    assert parts.numbers(asked, n.Not(asked)) == [wanted, others]


def _tokens(message: str) -> set[str]:
    ascii_lower = message.translate(str.maketrans(string.ascii_uppercase, string.ascii_lowercase))
    return set(re.findall("[0-9a-z\u0080-\U0010ffff]+", ascii_lower))


def test_every_ascii_word_is_found_exactly(parts: Parts) -> None:
    words = [word for word in WORDS if re.fullmatch("[0-9A-Za-z]+", word) and len(word) < 10_000]
    tokens = [_tokens(record.message) for record in POOL]
    for word, numbers in zip(words, parts.numbers(*map(n.Word, words)), strict=True):
        assert numbers
        assert numbers == [i for i, found in enumerate(tokens) if word.lower() in found], word


def test_words_beyond_ascii_are_found_as_the_tail_finds_them(parts: Parts) -> None:
    words = [word for word in WORDS if not word.isascii()]
    for word, numbers in zip(words, parts.numbers(*map(n.Word, words)), strict=True):
        assert numbers
        assert numbers == list(selector(n.Word(word))(BATCH, range(len(BATCH)))), word


@settings(max_examples=10, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), separators=st.lists(st.sampled_from(SEPARATORS)))
def test_words_put_together_are_found_as_the_tail_finds_them(
    parts: Parts, words: list[str], separators: list[str]
) -> None:
    text = "".join(word + separator for word, separator in zip(words, (*separators, "-", "_", ""), strict=False))
    asked = (n.Word(text), n.Phrase(text), n.And(tuple(map(n.Word, words))))
    assert parts.numbers(*asked) == [list(selector(one)(BATCH, range(len(BATCH)))) for one in asked]


def _batched(values: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (values[at : at + size] for at in range(0, len(values), size))
