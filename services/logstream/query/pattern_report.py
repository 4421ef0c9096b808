"""Which kinds of line a period has, and how many more or fewer than the period before it."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from logstream.query.filter import LogFilter
from logstream.query.limits import QueryLimits
from logstream.query.logs import where
from logstream.query.patterns import Pattern, Seen, Template, summarise
from logstream.query.patterns.counted import counted_sql, example_sql
from logstream.query.patterns.shape import MASK
from logstream.query.period import Period, within
from logstream.storage.store import Store
from logstream.stream import Stream

_MAX_WORDS = 6
_MAX_WORD = 100

_PLAIN = re.compile(r"[A-Za-z]{2,}", re.ASCII)
_OPERATORS = frozenset({"AND", "OR", "NOT", "TO"})


@dataclass(frozen=True, slots=True)
class PatternReport:
    """total, previous: lines of the period and of the one before. rest: lines of the period in none of `patterns`,
    because they have more different shapes than are counted. patterns: the most frequent of the period first."""

    total: int
    previous: int
    rest: int
    patterns: Sequence[Pattern]


class PatternReader:
    """Raises StoreUnavailable, TooLarge and what the limits of a statement raise.

    executor: where templates are learnt, which nothing interrupts: of one thread, so that callers who leave and come
    again do not take the whole processor (the largest report takes some seconds of it).
    """

    def __init__(self, store: Store, limits: QueryLimits, executor: Executor) -> None:
        self._store = store
        self._limits = limits
        self._executor = executor

    async def read(self, stream: Stream, logs: LogFilter, period: Period) -> PatternReport:
        """The patterns of `period` and of the period of the same length before it, learnt together."""
        before = period.before()
        condition = where(within(logs, Period(min(before.start, period.start), period.end)))
        now = "timestamp >= fromUnixTimestamp64Nano({period:Int64}, 'UTC')"
        answer = await self._store.query(
            counted_sql(
                "message",
                f"{stream.database}.logs WHERE {condition.sql}",
                [f"countIf({now})", f"countIf(NOT {now})", f"argMax({example_sql('message')}, timestamp)"],
            ),
            {**condition.parameters, "period": period.start},
            settings=self._limits.settings,
        )
        total = previous = 0
        shapes: dict[str, Seen] = {}
        past: dict[str, Seen] = {}
        for shape, every, here, there, text in answer.rows:
            if every:
                total, previous = here, there
                continue
            if here:
                shapes[shape] = Seen(here, text)
            if there:
                past[shape] = Seen(there, text)
        rest = total - sum(seen.count for seen in shapes.values())
        learning = asyncio.get_running_loop().run_in_executor(self._executor, summarise, shapes, past)
        return PatternReport(total, previous, rest, await learning)


def query_of(template: Template) -> str:
    """A query that finds the lines of `template`, and perhaps some others: its longest words, in their order."""
    words = dict.fromkeys(atom for atom in template.atoms if atom != MASK and any(map(str.isalnum, atom)))
    longest = sorted((word for word in words if len(word) <= _MAX_WORD), key=len, reverse=True)[:_MAX_WORDS]
    chosen = [word for word in words if word in longest]
    return " ".join(map(_term, chosen)) or "*"


def _term(word: str) -> str:
    """A plain word uses the index; anything else is looked for as a piece of the message."""
    if _PLAIN.fullmatch(word) and word not in _OPERATORS:
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
