"""Queries made up by grammar: what one may write, and what looks like it."""

from hypothesis import strategies as st

# Few, so that pipes meet the columns of those before them.
_NAMES = st.sampled_from(["ms", "user", "service", "message", "n", "timestamp", "level", "count", "count()"])
_VALUES = st.sampled_from(["a", "u1", "250", "''", "u*", "*", "web", "*m*", "/1/"])
_QUANTITIES = st.sampled_from(["5", "1s", "1KiB", "-1e3"])
_TERMS = st.one_of(
    st.builds("{}:{}".format, _NAMES.filter(lambda name: name not in {"level", "timestamp"}), _VALUES),
    st.builds("{}>{}".format, st.sampled_from(["ms", "n", "count", "count()", "user"]), _QUANTITIES),
    st.sampled_from(["level>=warn", "timestamp>2023-11-14", "timed", "ti*", "'x y'", "/t.*d/", "_exists:n",
                     "_exists:user", "_exists:count", "*", "''"]),
)  # fmt: skip


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.builds("({} OR {})".format, inner, inner) | st.builds("{} {}".format, inner, inner)
    return pairs | st.builds("NOT {}".format, inner)


FILTERS = st.recursive(_TERMS, _joined, max_leaves=4)
_AGGREGATES = st.sampled_from(
    ["count()", "count() as n", "max(ms) as n", "avg(n) as n", "dc(user) as count", "min(timestamp)", "p99(count)",
     "max(timestamp) as n", "count(user) as n", "sum(count()) as count", "dc(level) as n", "count(n) as count"]
)  # fmt: skip
_WHERE = st.builds("where {}".format, FILTERS)
_PIPES = st.one_of(
    _WHERE,
    _WHERE,
    st.builds("stats {}".format, _AGGREGATES),
    st.builds("stats {} by {}".format, _AGGREGATES, _NAMES),
    st.builds("stats {} by {}, {}".format, _AGGREGATES, _NAMES, _NAMES),
    st.builds("timechart 1m {} by {}".format, _AGGREGATES, _NAMES),
    st.builds("timechart 1m {}".format, _AGGREGATES),
    st.builds("top 3 {}".format, _NAMES),
    st.builds("rare {}".format, _NAMES),
    st.builds("fields {}, {}".format, _NAMES, _NAMES),
    st.builds("sort {}, -{}".format, _NAMES, _NAMES),
    st.builds("limit {}".format, st.integers(1, 50)),
    st.builds('extract "<{}> <_>" from {}'.format, _NAMES.filter(str.isalpha), _NAMES),
    st.sampled_from(["patterns", "patterns 2"]),
)
QUERIES = st.builds("{} | {}".format, FILTERS, st.lists(_PIPES, min_size=1, max_size=5).map(" | ".join))
"""Readable; some name columns that are not there."""

_HOSTILE = st.sampled_from(
    ["$", "\0", "{q0:String}", "'; DROP TABLE logs; --", "(", "k:", "NOT", "timestamp<1970-01-01", "level:loud",
     "ms:>1e400", '"\\"\\n"', "ms:[1 TO", "é", "-GET", "ms>=''", "metadata.metadata.:x"]
)  # fmt: skip
HOSTILE_FILTERS = st.recursive(_TERMS | _HOSTILE, _joined, max_leaves=4)
_HOSTILE_PIPES = st.one_of(
    _PIPES,
    st.builds("where {}".format, HOSTILE_FILTERS),
    st.builds("stats {}({}) by {}".format, st.sampled_from(["median", "p0", "x", "sum"]), _NAMES, _NAMES),
    st.builds("timechart {}".format, st.sampled_from(["1ns", "366d", "400d", "0s"])),
    st.builds("limit {}".format, st.sampled_from(["0", "100000", "99999999999"])),
    st.builds('extract "[({}<n> <_>"'.format, _VALUES),
    st.sampled_from(["nonsense", "", "fields metadata", "stats count() by metadata", "top gone"]),
)
HOSTILE_QUERIES = st.builds("{}{}".format, HOSTILE_FILTERS | st.just(""), st.lists(_HOSTILE_PIPES, max_size=4).map(
    lambda pipes: "".join(f" | {pipe}" for pipe in pipes)))  # fmt: skip
"""Some of it is no query."""
