import random

import pytest
import re2
from benchmarks.patterns import accuracies, grouping_accuracy, read_labelled, templates_of
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.loghub import LOGHUB
from tests.support.templates import PROGRAMS, labelled

from logstream.query.patterns import Seen, ShapeCounter, learn, shape_of, summarise
from logstream.query.patterns.shape import HEAD_CHARACTERS, MASK, VALUE_PATTERN
from logstream.query.patterns.tokens import MAX_ATOMS

_PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["<*>", "()", "[]", '"a b"', "'x'", "a=b", "=", ":", "/var/log/x.log", "http://h/p?q", "10.0.0.1:80", "-", "::",
         "user", "alice", "bob", "carol", "dave", "Mon Jan 2", "\n", "\t", "\0", "…", "key: 'v'", "a.b.C", "0x1f", ","]
    ),
)  # fmt: skip
messages = st.lists(_PIECES, max_size=12).map(" ".join) | st.lists(_PIECES, max_size=12).map("".join)


def _template(message: str, *others: str) -> str:
    shapes = [shape_of(text) for text in (message, *others)]
    return learn(shapes)[shapes[0]].text


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("took 12.5 ms", "took <*> ms"),
        ("took 12ms", "took <*>"),
        ("user 3f2504e0-4f89-11d3-9a0c-0305e82c3301 left", "user <*> left"),
        ("peer 10.0.0.1:8080 gone", "peer <*> gone"),
        ("peer fe80::1c2d gone", "peer <*> gone"),
        ("peer fe80::ab:1c2d:cd gone", "peer <*> gone"),
        ("from aa:bb:0c:dd:ee:ff to us", "from <*> to us"),
        ("at 12:00:01: be a good one", "at <*>: be a good one"),
        ("mail ann.lee+x@mail.example.org sent", "mail <*> sent"),
        ("a::b and std::vector", "a::b and std::vector"),
        ("uid=0 euid=17", "uid=<*> euid=<*>"),
        ("read /var/lib/app data", "read <*> data"),
        ('said "hello" twice', 'said "<*>" twice'),
        ('tag="a long text", on', "tag=<*>, on"),
        ("GET https://example.org/a?b=c done", "GET <*> done"),
        ("since Tue Mar  3 12:00:00 2020 idle", "since <*> idle"),
        ("ids 1, 2, 3 and 4", "ids <*> and <*>"),
        ("value is null", "value is <*>"),
        ("no value here.", "no value here."),
        ("and/or", "and/or"),
        ("", ""),
        ("Traceback:\n  File a\n  File b", "Traceback: <*>"),
    ],
)
def test_masks_values_that_need_no_comparison(message: str, template: str) -> None:
    assert _template(message) == template


def test_few_words_are_kinds_of_message_and_many_are_values() -> None:
    users = ["anna", "boris", "chloe", "dmitri", "eva"]
    lines = [f"mail for {user} waits in the queue" for user in users]
    assert _template(*lines[:3]) == lines[0]
    assert _template(*lines) == "mail for <*> waits in the queue"


def test_states_and_events_stay_apart_longer_than_names() -> None:
    states = [f"volume moved to {state} by request" for state in ("NEW", "READY", "BUSY", "FAILED", "GONE")]
    assert _template(*states) == states[0]
    events = [f"the connection was {event} by the peer" for event in ("closed", "opened", "refused", "dropped", "kept")]
    assert _template(*events) == events[0]


def test_a_word_where_a_value_was_seen_is_a_value() -> None:
    assert _template("node web is ready", "node web-1 is ready") == "node <*> is ready"


def test_a_word_after_what_came_before_a_value_is_a_value() -> None:
    lines = ["session opened for anna", "session opened for boris", "sorry: nothing opened for 17 at all"]
    assert _template(*lines) == "session opened for <*>"


def test_units_of_one_quantity_are_one_message() -> None:
    lines = ["stored a block of 3.2 KB in memory", "stored a block of 1.1 MB in memory"]
    assert _template(*lines) == "stored a block of <*> in memory"
    assert _template(lines[0]) == "stored a block of <*> KB in memory"


def test_two_values_without_digits_in_one_message() -> None:
    dice = random.Random(3)
    words = ["".join(dice.choices("abcdefghij", k=7)) for _ in range(80)]
    lines = [f"copied {a} to the folder {b} for backup" for a, b in zip(words[:40], words[40:], strict=True)]
    lines += ["copied all to the trash bin for good", "started all of the tasks in order now"]
    assert _template(*lines) == "copied <*> to the folder <*> for backup"
    assert _template(*reversed(lines)) == lines[-1]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("lines", [300, 3_000])
def test_groups_invented_formats_as_labelled(program: str, lines: int) -> None:
    pairs = labelled(program, lines)
    groups = templates_of([message for message, _ in pairs])
    assert grouping_accuracy([label for _, label in pairs], groups) >= 0.95


def test_groups_real_logs_as_labelled() -> None:
    if not LOGHUB.is_dir():
        pytest.skip(f"Loghub's samples are not in {LOGHUB}; set LOGSTREAM_LOGHUB to their folder")
    found = accuracies(LOGHUB)
    assert sum(found.values()) / len(found) >= 0.97, found
    assert min(found.values()) >= 0.90, found


def test_real_lines_match_their_templates() -> None:
    if not LOGHUB.is_dir():
        pytest.skip(f"Loghub's samples are not in {LOGHUB}; set LOGSTREAM_LOGHUB to their folder")
    for path in LOGHUB.glob("*/*_structured.csv"):
        lines, _ = read_labelled(path)
        templates = learn(set(map(shape_of, lines)))
        assert [line for line in lines if not templates[shape_of(line)].matches(line)] == []


def test_grouping_accuracy_counts_only_groups_that_are_exactly_right() -> None:
    assert grouping_accuracy("aabbb", [1, 1, 2, 2, 2]) == 1
    assert grouping_accuracy("aabbb", [1, 1, 2, 2, 3]) == 0.4
    assert grouping_accuracy("aabbb", [1, 1, 1, 2, 2]) == 0


@given(st.lists(messages, max_size=20))
@example(["<*>", "<*", "*>", "a<*>b", "<*><*>"])
@example(["a 1, 2", "a 1 ,2 b", "a ,", "1,,2", "-1-", "1.", "1 . 2"])
def test_every_message_matches_its_template(lines: list[str]) -> None:
    templates = learn({shape_of(line) for line in lines})
    for line in lines:
        assert templates[shape_of(line)].matches(line)


@given(st.lists(messages, max_size=20), st.randoms())
def test_templates_do_not_depend_on_order_or_number(lines: list[str], dice: random.Random) -> None:
    shapes = list(map(shape_of, lines))
    shuffled = shapes * 2
    dice.shuffle(shuffled)
    assert learn(shapes) == learn(shuffled)


@given(messages)
def test_re2_makes_the_same_shapes(line: str) -> None:
    text = line.encode("utf-8", "replace").decode().replace("\n", " ")
    assert re2.sub(VALUE_PATTERN, MASK, text) == shape_of(text)


@given(st.lists(messages, max_size=40), st.integers(1, 5))
def test_counts_every_message_once(lines: list[str], limit: int) -> None:
    counter = ShapeCounter(limit)
    counter.add(lines)
    assert len(counter.shapes) <= limit
    assert sum(seen.count for seen in counter.shapes.values()) + counter.rest == len(lines)
    for shape, seen in counter.shapes.items():
        assert shape == shape_of(seen.example)
        assert seen.count == sum(shape_of(line) == shape for line in lines)


def test_counts_the_same_whether_masked_together_or_one_by_one() -> None:
    lines = ["a 1", "b 2", "a 3"]
    together, apart = ShapeCounter(), ShapeCounter()
    together.add(lines)
    apart.add([*lines, "c\0d 4", "e\nf"])  # what cannot be joined
    assert together.shapes == {"a <*>": Seen(2, "a 1"), "b <*>": Seen(1, "b 2")}
    assert apart.shapes == together.shapes | {"c\0d <*>": Seen(1, "c\0d 4"), "e <*>": Seen(1, "e\nf")}


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        ShapeCounter(0)


@pytest.mark.parametrize("piece", [*"a1\"'/\\= é", "a.", "1 ", "='", "a/", "a-", "<*>", "<*>:", "Mon ", "x://", "\n"])
def test_long_messages_are_cut(piece: str) -> None:
    line = piece * 300_000
    shape = shape_of(line)
    assert len(shape) <= HEAD_CHARACTERS * 4
    template = learn([shape])[shape]
    assert len(template.atoms) <= MAX_ATOMS + 1
    assert template.matches(line)


def test_a_long_message_is_not_cut_inside_a_value() -> None:
    begin = "word " * ((HEAD_CHARACTERS - 10) // 5)
    assert len({shape_of(f"{begin}{'abcdefghijk'[:k]}{'9' * 40} end") for k in range(1, 9)}) == 1


def test_summary_counts_two_periods_with_the_same_templates() -> None:
    now, before = ShapeCounter(), ShapeCounter()
    now.add(["user anna left", "user boris left", "user anna left", "disk full"])
    before.add(["user chloe left", "user dmitri left", "user eva left", "all is well"])
    found = {pattern.template.text: (pattern.count, pattern.before) for pattern in summarise(now.shapes, before.shapes)}
    assert found == {"user <*> left": (3, 3), "disk full": (1, 0), "all is well": (0, 1)}
    first = summarise(now.shapes, before.shapes)[0]
    assert first.examples == ("user anna left", "user boris left", "user chloe left")


def test_ids_are_the_same_in_every_process() -> None:
    shape = shape_of("user u-17 logged in from 10.0.0.1")
    assert learn([shape])[shape].id == "ce6232f5d8de4d92"


def test_a_template_matches_only_its_messages() -> None:
    shape = shape_of("job 17 took 3 s")
    template = learn([shape])[shape]
    assert template.matches("job x took a long s")
    assert not template.matches("job 17 took 3 m")
    assert not template.matches("a job 17 took 3 s")
    assert not template.matches("job 17 3 s")
    constant = learn(["ready"])["ready"]
    assert constant.matches("ready ")
    assert not constant.matches("ready now")
