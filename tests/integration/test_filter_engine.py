"""The two printers of a filter give the same answer on the real engine."""

import random
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engine import EngineProcess
from tests.support.table import Table

from logstream.query.filter import LogFilter, select, to_sql
from logstream.query.time import MAX_NS, MIN_NS
from logstream.record import Batch, Record

pytestmark = pytest.mark.engine

SPECIAL = ["\0", "%", "_", "\\", "'", '"', "`", "\n", "\t", "\r", "{", "}", "?", ";", "--", "/*",
           "\\0", "\\'", "\\N", "$1"]  # fmt: skip
WORDS = ["error", "Timed OUT", "ÄRGER", "straße", "STRASSE", "ΟΔΟΣ", "οδοσα", "İstanbul", "ı", "\u212a", "ſ", "ǅ",
         "日本", "🙂"]  # fmt: skip
TIMES = [MIN_NS, -1, 0, 1, 1_700_000_000_123_456_789, 4_291_747_200 * 10**9, MAX_NS]
SERVICES = ["payment", "Payment", "a,b", "'", "\\", "\0", "ü", "service IN ('x')"]


def _known(character: str) -> bool:
    # Letters of a Unicode version newer than Python's (or the engine's) fold on one side only.
    return unicodedata.category(character) not in ("Cn", "Cs")


def _pool() -> list[Record]:
    rng = random.Random(7)
    alphabet = [c for c in map(chr, range(1, 0x2FFF)) if _known(c)]
    records = []
    for number in range(3_000):
        parts = rng.choices(SPECIAL + WORDS, k=rng.randint(0, 4)) + rng.choices(alphabet, k=rng.randint(0, 6))
        rng.shuffle(parts)
        glue = rng.choice(("", " ", "-"))
        records.append(
            Record(rng.choice(TIMES) if number % 2 else rng.randint(MIN_NS, MAX_NS), rng.choice(SERVICES),
                   rng.randint(1, 6), glue.join(parts), {"n": str(number)})
        )  # fmt: skip
    return records


POOL = _pool()
BATCH = Batch.of(POOL)


def _substrings() -> Iterator[str]:
    for record in POOL:
        if record.message:
            yield record.message[len(record.message) // 3 :][:4].swapcase()
            yield record.message.swapcase()


NEEDLES = (
    st.sampled_from(SPECIAL + WORDS + list(_substrings()))
    | st.sampled_from(WORDS).map(str.upper)
    | st.tuples(st.sampled_from(WORDS + SPECIAL), st.sampled_from(WORDS), st.sampled_from(WORDS + SPECIAL)).map(
        " ".join
    )
    | st.text(st.characters(exclude_categories=("Cn", "Cs")), max_size=3)
)
FILTERS = st.builds(
    LogFilter.of,
    services=st.lists(st.sampled_from(SERVICES) | st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
                      max_size=3).map(tuple),
    levels=st.sets(st.integers(1, 6), max_size=3).map(sorted).map(tuple),
    search=NEEDLES,
    start=st.none() | st.sampled_from(TIMES) | st.integers(MIN_NS, MAX_NS),
    end=st.none() | st.sampled_from(TIMES) | st.integers(MIN_NS, MAX_NS),
)  # fmt: skip


@pytest.fixture(scope="module")
def table(engine: EngineProcess) -> Iterator[Table]:
    table = Table(engine.url, "filter-agreement", POOL, granularity=2, merged=True)
    yield table
    table.close()


@settings(max_examples=300, deadline=None)
@given(logs=FILTERS)
def test_sql_and_predicate_agree(table: Table, logs: LogFilter):
    assert table.rows(to_sql(logs)) == list(select(logs, BATCH))


@pytest.mark.parametrize("needle", SPECIAL + WORDS)
def test_each_special_needle_finds_what_it_is_in(table: Table, needle: str):
    found = table.rows(to_sql(LogFilter.of(search=needle)))
    assert found
    assert found == list(select(LogFilter.of(search=needle), BATCH))
