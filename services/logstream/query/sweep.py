"""Newest lines first, in windows of time that widen until there are enough.

A window that is too wide costs more than one more question: within five minutes the table is ordered by service, so
the newest lines of all services lie apart. How much wider the next one is follows from what the last one held.
"""

import re
from dataclasses import replace

from logstream.query.filter import LogFilter
from logstream.query.language import nodes as n
from logstream.query.time import MIN_NS
from logstream.storage.schema import BUCKET_NS, pair

FIRST_NS = 60 * 10**9
"""The width of the first window."""
_LEAST, _MOST = 2, 30
"""The next window is so many times as wide."""
_SPARE = 1.5
"""How many times as wide as would hold the rest, if lines were spread evenly."""
_LETTERS = re.compile("[A-Za-z]+")


class Sweep:
    """The windows of `logs`, which follow one another and together are `logs`.

    left: how many lines are still wanted. hints: for the statement that asks for the last window, a SETTINGS clause or
    nothing. now_ns: where the first window lies, unless `logs` ends before.
    """

    def __init__(self, logs: LogFilter, *, limit: int, now_ns: int) -> None:
        self.left = limit
        self.hints = ""
        self._logs = logs
        self._oldest = MIN_NS if logs.start is None else logs.start
        self._end = logs.end
        # The first window of an open-ended question reaches from a while ago into the future.
        self._edge = now_ns if logs.end is None else min(logs.end, now_ns)
        self._width = FIRST_NS
        self._done = limit < 1
        self._at_once = _seldom(logs.where)

    def window(self) -> LogFilter | None:
        """The next window; None when there are enough lines or no further time."""
        if self._done or self.left < 1:
            return None
        start = self._edge - self._width
        # A rest smaller than this window is not worth a question of its own.
        if self._at_once or start <= self._oldest + self._width:
            self._done = True
            return self._hinted(replace(self._logs, end=self._end))
        window = replace(self._logs, start=start, end=self._end)
        self._edge = self._end = start - 1
        return self._hinted(window)

    def _hinted(self, window: LogFilter) -> LogFilter:
        start = self._oldest if window.start is None else window.start
        if self._at_once:
            # Next to nothing is left: reading in order and step by step has nothing to spare.
            self.hints = "SETTINGS optimize_read_in_order = 0, use_skip_indexes_on_data_read = 0"
        elif window.end is not None and window.end - start <= BUCKET_NS:
            # Within a bucket lines are ordered by service first, so that all are read anyway.
            self.hints = "SETTINGS optimize_read_in_order = 0"
        else:
            self.hints = ""
        return window

    def took(self, lines: int) -> None:
        """The last window held `lines` lines, at most `left` of which were read."""
        growth = min(_MOST, max(_LEAST, _SPARE * max(self.left - lines, 0) / lines)) if lines else _MOST
        self._width = int(self._width * growth)
        self.left -= lines


def _seldom(asked: n.Filter) -> bool:
    """Whether an index is likely to leave next to nothing of the table, so that one question is the cheapest."""
    match asked:
        case n.And(operands):
            return any(_seldom(operand) for operand in operands)
        case n.Equals(n.Field("metadata", key), value):
            return bool(value) and pair(key, value) is None
        case n.Equals(n.Field("trace_id" | "span_id"), value):
            return bool(value)
        case n.Word(text):
            return text.isascii() and not _LETTERS.fullmatch(text)
        case _:
            return False
