"""What analysis decides without the store: widths of buckets, kinds of fields, queries of templates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.errors import InvalidValue
from logstream.query.discover import kind_of, name_of
from logstream.query.filter import LogFilter, matches
from logstream.query.histogram import choose_step, parse_step
from logstream.query.language import nodes, parse
from logstream.query.limits import QueryLimits
from logstream.query.pattern_report import query_of
from logstream.query.patterns import learn, shape_of
from logstream.query.period import Period, begun, period_of
from logstream.query.time import MAX_NS, MIN_NS
from logstream.record import Record

SECOND = 10**9
HOUR = 3_600 * SECOND
times = st.integers(MIN_NS, MAX_NS)


@pytest.mark.parametrize(
    ("seconds", "step"),
    [(0.001, 0.001), (1, 0.02), (60, 1), (900, 15), (3_600, 60), (86_400, 1_800), (7 * 86_400, 3 * 3_600),
     (30 * 86_400, 12 * 3_600), (365 * 86_400, 7 * 86_400)],
)  # fmt: skip
def test_widths_are_round(seconds: float, step: float):
    assert choose_step(Period(0, int(seconds * SECOND) - 1)) == step * SECOND


@given(times, times)
def test_every_period_has_about_sixty_buckets(one: int, other: int):
    period = Period(min(one, other), max(one, other))
    step = choose_step(period)
    assert period.end // step - period.start // step + 1 <= 61
    assert step == 10**6 or period.length / step > 60 / 5


def test_steps_are_durations():
    assert parse_step("30s") == 30 * SECOND
    assert parse_step("1h30m") == 90 * 60 * SECOND
    assert parse_step("1ms") == 10**6
    for text in ("", "30", "-1s", "0s", "1ns", "3651d", "s", "1 s 2", "9" * 400 + "d"):
        with pytest.raises(InvalidValue) as caught:
            parse_step(text)
        assert caught.value.field == "step"


def test_a_period_is_the_last_hour_unless_said_otherwise():
    now = 1_700_000_000 * SECOND
    limits = QueryLimits()
    assert period_of(LogFilter(), limits, now) == Period(now - HOUR, now)
    assert period_of(LogFilter(end=5), limits, now) == Period(5 - HOUR, 5)
    assert period_of(LogFilter(start=5), limits, now) == Period(5, now)
    assert period_of(LogFilter(end=MIN_NS), limits, now) == Period(MIN_NS, MIN_NS)
    with pytest.raises(InvalidValue):
        period_of(LogFilter(start=now + 1), limits, now)
    with pytest.raises(InvalidValue):
        period_of(LogFilter(start=0), QueryLimits(span_ns=HOUR), now)


def test_lines_begin_an_hour_before_their_end_which_may_stay_open():
    now = 1_700_000_000 * SECOND
    assert begun(LogFilter(), QueryLimits(), now) == LogFilter(start=now - HOUR)
    assert begun(LogFilter(end=5), QueryLimits(), now) == LogFilter(start=5 - HOUR, end=5)
    assert begun(LogFilter(start=now + 1), QueryLimits(), now) == LogFilter(start=now + 1)
    for logs in (LogFilter(start=0), LogFilter(start=6, end=5)):
        with pytest.raises(InvalidValue):
            begun(logs, QueryLimits(span_ns=HOUR), now)


@given(times, times)
def test_the_period_before_is_as_long_and_ends_where_it_begins(one: int, other: int):
    period = Period(min(one, other), max(one, other))
    before = period.before()
    assert before.end == period.start - 1
    assert before.length == period.length or before.start == MIN_NS


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2.5", "1e6", ""], "number"), (["1", "x"], "text"), (["250ms", "1.5s", "1h30m"], "duration"),
        (["10KiB", "900"], "size"), (["10KiB", "1s"], "text"), (["true", "FALSE"], "boolean"), (["true", "1"], "text"),
        (["2026-01-31T12:00:00Z", "2026-01-31"], "time"), (["2026-13-31"], "text"), (["20260131"], "number"),
        (["1e999"], "text"), ([""], "text"), ([], "text"), (["9" * 400 + "s"], "text"), (["NaN"], "text"),
    ],
)  # fmt: skip
def test_a_kind_is_what_all_values_can_be_read_as(values: list[str], kind: str):
    assert kind_of(values) == kind


@given(
    st.text(min_size=1) | st.sampled_from(["service", "level", "metadata.", "metadata.x", "metadata.metadata.", "m"])
)
def test_names_of_keys_lead_back_to_them(key: str):
    assert nodes.field_named(name_of(key)) == nodes.Field("metadata", key)


PIECES = (
    "AND", "OR", "NOT", "TO", "by", "a", "user", "Über", "naïve", "x|y", "-v", "!", "f(x)", "\\", '"', "'", "/re/",
    "a:b", "k=v", "[", "}", "*", "<*>", "_exists:", "#", "\0", "%", "12", "v1", "\u3000",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=12).map(" ".join))
def test_the_query_of_a_template_can_be_read_and_finds_its_message(message: str):
    shape = shape_of(message)
    query = query_of(learn([shape])[shape])
    assert not parse(query).pipes
    assert len(query) <= 1_500
    assert matches(LogFilter.of(query=query), Record(0, "s", 3, message)), query


def test_the_query_of_a_template_has_its_longest_words_in_order():
    shape = shape_of("user bob 17 failed to log in after the connection had timed out (10 s), NOT retrying")
    query = query_of(learn([shape])[shape])
    assert query == "user failed after connection timed retrying"
    assert query_of(learn(["<*>"])["<*>"]) == "*"
    assert query_of(learn(["x" * 200])["x" * 200]) == "*"
