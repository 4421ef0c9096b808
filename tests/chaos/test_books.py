"""The checker of the chaos runs notices what it is there for."""

import zlib

import pytest
from benchmarks.chaos_books import ACKNOWLEDGED, SENT, Findings, audit, is_poison, ledger_faults, text_of

SEED = 7
SENT_LINES = {0: bytes([ACKNOWLEDGED]) * 8_000, 1: bytes([ACKNOWLEDGED]) * 500 + bytes([SENT]) * 500}

Row = tuple[int, int, int]


def whole() -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows and letters when every line has come to its end."""
    lines = [(client, number) for client, states in SENT_LINES.items() for number in range(len(states))]
    letters = [line for line in lines if is_poison(SEED, *line)]
    rows = [(*line, zlib.crc32(text_of(SEED, *line).encode())) for line in lines if not is_poison(SEED, *line)]
    return rows, letters


def check(rows: list[Row], letters: list[tuple[int, int]]) -> Findings:
    return audit(SEED, SENT_LINES, rows, letters)


def test_books_without_a_fault_are_clean() -> None:
    rows, letters = whole()
    assert len(letters) >= 2
    found = check(rows, letters)
    assert found.clean
    assert (found.stored, found.dead_lettered) == (len(rows), len(letters))
    assert (found.acknowledged, found.unanswered, found.unanswered_there) == (8_500, 500, 500)


def test_lines_that_nobody_acknowledged_may_be_missing() -> None:
    rows, letters = whole()
    found = check([row for row in rows if row[0] == 0 or row[1] < 500], [at for at in letters if at < (1, 500)])
    assert found.clean
    assert found.unanswered_there == 0


def test_a_loss_is_noticed() -> None:
    rows, letters = whole()
    client, number, _ = rows.pop(100)
    found = check(rows, letters)
    assert (found.lost, found.doubled, found.clean) == (1, 0, False)
    assert found.examples == [f"lost: line {number} of client {client}"]


@pytest.mark.parametrize("line", [(0, 1_000), (1, 999)], ids=["acknowledged", "unanswered"])
def test_a_double_is_noticed(line: tuple[int, int]) -> None:
    rows, letters = whole()
    found = check([*rows, next(row for row in rows if row[:2] == line)], letters)
    assert (found.lost, found.doubled, found.clean) == (0, 1, False)


def test_a_letter_that_is_missing_or_there_twice_is_noticed() -> None:
    rows, letters = whole()
    assert (check(rows, letters[1:]).lost, check(rows, [*letters, letters[0]]).doubled) == (1, 1)


def test_a_line_that_is_stored_and_a_letter_is_doubled() -> None:
    rows, letters = whole()
    client, number = letters[0]
    row = client, number, zlib.crc32(text_of(SEED, client, number).encode())
    found = check([*rows, row], letters)
    assert (found.doubled, found.misplaced) == (1, 1)


def test_a_letter_without_a_reason_is_noticed() -> None:
    rows, letters = whole()
    found = check(rows[1:], [*letters, rows[0][:2]])
    assert (found.lost, found.doubled, found.misplaced) == (0, 0, 1)


def test_what_nobody_sent_and_other_texts_are_noticed() -> None:
    rows, letters = whole()
    client, number, checksum = rows[5]
    found = check([*rows[:5], (client, number, checksum ^ 1), *rows[6:], (9, 0, 0), (0, 8_000, 0)], letters)
    assert (found.damaged, found.foreign, found.clean) == (1, 2, False)


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({}, 0),
        ({"stored": 9}, 2),
        ({"dead_lettered": 3}, 2),
        ({"in_flight": 1}, 2),
        ({"accepted": 14}, 1),
        ({"accepted": 14, "deduplicated": 2}, 0),
    ],
)
def test_a_ledger_that_says_something_else_is_noticed(change: dict[str, int], faults: int) -> None:
    total = {"accepted": 13, "stored": 10, "deduplicated": 1, "dead_lettered": 2, "in_flight": 0}
    assert len(ledger_faults(total | change, Findings(stored=10, dead_lettered=2))) == faults
