"""The query language on the real engine: SQL and predicate give the same answer, and pipes the right one."""

import math
import random
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engine import EngineProcess
from tests.support.table import Table

from logstream.query.filter import LogFilter, narrowed, select
from logstream.query.language import compile_query, parse, predicate, selector, to_sql
from logstream.query.language import nodes as n
from logstream.query.language.build import MAX_WILDCARDS
from logstream.query.language.parser import MAX_CHARACTERS, MAX_REGEXES, MAX_TERMS
from logstream.query.language.quantity import Kind, Quantity, reader
from logstream.query.language.quantity import to_sql as quantity_sql
from logstream.query.language.sql import Parameters
from logstream.query.logs import where
from logstream.query.time import MAX_NS, MIN_NS
from logstream.record import Batch, Record

pytestmark = pytest.mark.engine

SEPARATORS = [" ", "-", ".", "/", ":", "_", "\n", "\t", "\0", "%", "\\", "'", '"', "(", "*", "\x7f", "\x0b"]
WORDS = ["error", "Timed", "OUT", "10", "0", "web", "web-12", "a", "ÄRGER", "straße", "ΟΔΟΣ", "οδοσ", "İ", "K",
         "\u212a", "ſ", "日本", "🙂", "x\u0080y", "timed out", "/api/v1", "10.0.0.1"]  # fmt: skip
QUANTITIES = [
    "250", "250.0", "-3", "+4", "1e3", "1E-3", ".5", "5.", "0.3", "0.30000000000000004", "1.5s", "300ms",
    "1h30m", "2µs", "2μs", "5 m", "1m30.5s", "7d", "-5s", "10KiB", "10kb", "1.5 MB", "1B", "0b", "inf", "-inf",
    "nan", "1e400", "0x10", "1_000", " 5", "5 ", "1,000", "٣", "", "1e", "e5", "--5", "12345678901234567890",
    "9007199254740993", "KiB", "5 ib", "5K", "1e5s", "5s\n", "5\n", "infinity", "1 s 2 ms", "1" * 400,
]  # fmt: skip
SERVICES = ["payment", "Payment", "web-1", "a,b", "", "ü", "pay%ment", "pay_ment"]
KEYS = ["k", "user.id", "Ключ", "a'b", "metadata.k", "service", "{x:String}"]
TIMES = [MIN_NS, -1, 0, 1, 1_700_000_000_123_456_789, 1_700_000_000_123_456_790, 4_291_747_200 * 10**9, MAX_NS]
REGEXES = ["^error", "out$", "t.*d", "(?i)ärger", r"\d+", "", "^$", r"\bweb\b", "[^a-z]", "a|b", r"\pL+", "(?s).",
           r"(?m)^t", "x{2,3}", r"\x00", r"\n"]  # fmt: skip


def _known(character: str) -> bool:
    # Letters of a Unicode version newer than Python's (or the engine's) fold on one side only.
    return unicodedata.category(character) not in ("Cn", "Cs")


def _pool() -> list[Record]:
    rng = random.Random(11)
    alphabet = [c for c in map(chr, range(1, 0x2FFF)) if _known(c)]

    def value() -> str:
        return rng.choice((rng.choice(QUANTITIES), rng.choice(WORDS), rng.choice(SERVICES)))

    records = []
    for number in range(2_000):
        pieces = []
        for _ in range(rng.randint(0, 4)):
            pieces += [rng.choice(WORDS), rng.choice(SEPARATORS) if rng.random() < 0.8 else ""]
        if rng.random() < 0.2:
            pieces += rng.choices(alphabet, k=rng.randint(1, 4))
        message = "".join(pieces)
        records.append(
            Record(
                rng.choice(TIMES),
                rng.choice(SERVICES),
                rng.randint(1, 6),
                message.swapcase() if number % 3 == 0 else message,
                {key: value() for key in rng.sample(KEYS, rng.randint(0, 3))},
                rng.choice(("", "4bf92f3577b34da6", "web-1")),
                rng.choice(("", "00f067aa")),
            )
        )
    return records


POOL = _pool()
BATCH = Batch.of(POOL)

TEXTS = (
    st.sampled_from(WORDS)
    | st.lists(st.sampled_from(WORDS + SEPARATORS), min_size=1, max_size=4).map("".join)
    | st.sampled_from([r.message for r in POOL if r.message]).map(lambda m: m[len(m) // 3 :][:5].swapcase())
    | st.text(st.characters(exclude_categories=("Cn", "Cs")), min_size=1, max_size=3)
).filter(bool)
FIELDS = st.builds(n.Field, st.sampled_from(["service", "message", "trace_id", "span_id"])) | st.builds(
    n.Field, st.just("metadata"), st.sampled_from(KEYS)
)
VALUES = st.sampled_from(SERVICES + WORDS + QUANTITIES) | st.text(
    st.characters(exclude_categories=("Cn", "Cs")), max_size=3
)
PARTS = (
    st.lists(st.sampled_from(["", "web", "-", "1", "pay", "%", "_", "\\", "o", "ß", "e"]), min_size=2, max_size=4)
    .filter(any)
    .map(tuple)
)
ORDERS = st.sampled_from(["=", "<", "<=", ">", ">="])
LITERALS = st.builds(
    Quantity,
    st.sampled_from(Kind),
    st.sampled_from([0.0, 250.0, 0.3, -3.0, 1.5e9, 3e8, 5400e9, 10240.0, 1e4, 1.5e6, 1000.0, 0.001])
    | st.floats(allow_nan=False, allow_infinity=False),
)
TERMS = st.one_of(
    st.builds(n.Word, TEXTS),
    st.builds(n.WordPattern, st.lists(TEXTS | st.just(""), min_size=2, max_size=3).filter(any).map(tuple)),
    st.builds(n.Phrase, TEXTS),
    st.builds(n.Regex, FIELDS, st.sampled_from(REGEXES)),
    st.builds(n.Equals, FIELDS, VALUES),
    st.builds(n.Pattern, FIELDS, PARTS),
    st.builds(n.Compare, FIELDS, ORDERS.filter(lambda o: o != "="), LITERALS),
    st.builds(n.Exists, FIELDS),
    st.builds(n.LevelIs, ORDERS, st.integers(1, 6)),
    st.builds(n.Time, ORDERS, st.sampled_from(TIMES) | st.integers(MIN_NS, MAX_NS)),
    st.just(n.Everything()),
)
FILTERS = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(n.Not, inner)
        | st.builds(n.And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(n.Or, st.lists(inner, min_size=2, max_size=4).map(tuple))
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def table(engine: EngineProcess) -> Iterator[Table]:
    table = Table(engine.url, "language-agreement", POOL, granularity=2, merged=True)
    yield table
    table.close()


def _selected(asked: n.Filter) -> list[int]:
    return list(selector(asked)(BATCH, range(len(BATCH))))


@settings(max_examples=250, deadline=None)
@given(asked=FILTERS)
def test_sql_and_rows_selected_agree(table: Table, asked: n.Filter) -> None:
    assert table.rows(to_sql(asked)) == _selected(asked)


@settings(max_examples=100, deadline=None)
@given(asked=FILTERS, start=st.none() | st.sampled_from(TIMES), end=st.none() | st.sampled_from(TIMES))
def test_a_filter_asks_the_same_whether_its_bounds_are_pulled_out(
    table: Table, asked: n.Filter, start: int | None, end: int | None
) -> None:
    given_ = LogFilter(asked, start, end)
    pulled = narrowed(given_)
    wanted = list(select(given_, BATCH))
    assert list(select(pulled, BATCH)) == wanted
    assert table.rows(where(pulled)) == wanted


@settings(max_examples=100, deadline=None)
@given(asked=FILTERS, data=st.data())
def test_rows_and_single_records_are_judged_alike(asked: n.Filter, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(POOL) - 1), max_size=20, unique=True).map(sorted))
    wanted = predicate(asked)
    assert list(selector(asked)(BATCH, rows)) == [row for row in rows if wanted(POOL[row])]


@settings(max_examples=150, deadline=None)
@given(asked=FILTERS)
def test_a_filter_between_pipes_finds_the_same(table: Table, asked: n.Filter) -> None:
    # Behind `limit` it is about the columns of a subquery, for which there is another printer.
    pipes = (n.Limit(100_000), n.Where(asked), n.Stats((n.Aggregate(n.Function.COUNT, None, "n"),)))
    statement = compile_query(n.Query(n.EVERYTHING, pipes), table=table.name, limit=1)
    assert table.query(statement.sql, statement.parameters) == [(len(_selected(asked)),)]


@pytest.mark.parametrize("text", [w for w in WORDS if " " not in w])
def test_each_word_finds_what_it_is_in(table: Table, text: str) -> None:
    found = table.rows(to_sql(n.Word(text)))
    assert found
    assert found == _selected(n.Word(text))


@pytest.mark.parametrize(
    "query",
    [
        'service:payment level>=warn "timed out" -debug k:250 k>2 service:web-* /t.*d/ (a OR web) NOT zebra',
        "_exists:trace_id k:(250 OR 1.5s OR >1000)", "k>=300ms", "k<=10KiB", "k:[1 TO 300]", "k!=250", "*", "",
        "user.id:*s*", '"metadata.k":250', "metadata.metadata.k:*", "metadata.service:*", "timestamp>=2023-11-14",
        "level:(error OR -warn)", "web-* OR *med", "message:error", "trace_id:web-1",
    ],
)  # fmt: skip
def test_queries_as_people_write_them(table: Table, query: str) -> None:
    asked = parse(query).filter
    assert table.rows(to_sql(asked)) == _selected(asked)


@pytest.mark.parametrize(
    "query",
    [
        "日" * MAX_CHARACTERS,
        "k:" + "\U0001f642" * (MAX_CHARACTERS - 2),
        ".".join(f"{i:x}" for i in range(1100))[:MAX_CHARACTERS],
        "(" + " OR ".join(f"k:{i}*" for i in range(MAX_TERMS - 1)) + ") timed",
        " ".join(f"-took>{i}ms" for i in range(MAX_TERMS)),
        " OR ".join(f"/t{i}.*d/" for i in range(MAX_REGEXES)),
        "-(" * 20 + "timed" + ")" * 20,
        "x*" * MAX_WILDCARDS + " OR timed",
    ],
    ids=["wide word", "wide value", "many tokens", "many patterns", "many comparisons", "many regexes", "deep", "wild"],
)
def test_the_largest_queries_reach_the_engine(table: Table, query: str) -> None:
    asked = parse(query).filter
    assert table.rows(to_sql(asked)) == _selected(asked)


@pytest.mark.parametrize("kind", list(Kind))
def test_quantities_are_read_alike(table: Table, kind: Kind) -> None:
    rng = random.Random(5)
    texts = QUANTITIES + ["".join(rng.choices("0123456789.eE+-", k=rng.randint(1, 9))) for _ in range(2_000)]
    texts += [f"{rng.uniform(-1e3, 1e3)!r}{rng.choice(['', 's', 'ms', 'KiB', ' MB', 'h'])}" for _ in range(1_000)]
    texts += [repr(rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300)) for _ in range(1_000)]
    parameters = Parameters()
    value = quantity_sql("x", kind, parameters.bind)
    rows = table.query(f"SELECT {value} FROM (SELECT arrayJoin({{texts:Array(String)}}) AS x)",
                       {**parameters.values, "texts": texts})  # fmt: skip
    read = reader(kind)
    wrong = [(text, theirs, read(text)) for text, (theirs,) in zip(texts, rows, strict=True) if theirs != read(text)]
    assert not wrong
    assert sum(theirs is not None for (theirs,) in rows) > 10
    assert all(theirs is None or math.isfinite(theirs) or kind is not Kind.NUMBER for (theirs,) in rows)
