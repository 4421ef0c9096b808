"""Where a query is wrong is shown under its very character."""

from hypothesis import assume, given
from hypothesis import strategies as st
from rich.cells import cell_len

from logstream.cli.caret import point


def test_the_caret_stands_under_the_column_with_what_was_expected() -> None:
    assert point("(a OR b", 8, ["')'"], width=100) == ["  (a OR b", "         ^ expected ')'"]
    assert point("level:loud", 7, ["trace", "debug", "info"], width=100)[1] == "        ^ expected trace, debug or info"


def test_what_was_expected_gets_a_line_of_its_own_where_there_is_no_room() -> None:
    lines = point("a | b", 5, ["extract", "fields", "sort", "stats"], width=30)
    assert lines == ["  a | b", "      ^", "  expected extract, fields, sort or stats"]


def test_of_a_long_query_the_part_around_the_column_is_shown() -> None:
    query = "a " * 200 + "loud " + "b " * 200
    text, caret = point(query, 401, [], width=60)
    assert text.startswith("  …")
    assert text.endswith("…")
    assert text[caret.index("^") :].startswith("loud")
    assert len(text) <= 60


@given(
    st.text(st.characters(exclude_categories=["Cs", "Mn", "Me", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=300),
    st.data(),
)
def test_it_fits_and_points_at_the_character(query: str, data: st.DataObject) -> None:
    column = data.draw(st.integers(1, len(query)))
    pointed = query[column - 1]
    assume(cell_len(pointed))
    text, caret = point(query, column, [], width=60)
    assert cell_len(text) <= 62
    at = caret.index("^")
    place = next(i for i in range(len(text)) if cell_len(text[:i]) == at and cell_len(text[i]))
    assert text[place] == (
        pointed if pointed.isprintable() else " " if pointed.isspace() else "\N{REPLACEMENT CHARACTER}"
    )


def test_what_steers_a_terminal_is_not_repeated() -> None:
    assert point("a\x1b[2J\nb", 7, [], width=60) == ["  a\N{REPLACEMENT CHARACTER}[2J b", "        ^"]
