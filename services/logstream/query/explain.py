"""How the store answers a query: its SQL, the indexes that are used, and what it reads."""

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping
from contextvars import Context
from dataclasses import dataclass, replace

import msgspec

from logstream.errors import StoreUnavailable
from logstream.query.analysis import Analysis, statement
from logstream.query.language import Statement
from logstream.query.limits import QueryLimits
from logstream.query.parts import PartTimes
from logstream.storage.progress import COST, Cost
from logstream.storage.schema import TABLE
from logstream.storage.store import Store
from logstream.stream import Stream

_LOOK_SECONDS = 0.1
_MERGE_TREE = "ReadFromMergeTree"


@dataclass(frozen=True, slots=True)
class Selected:
    """`selected` of `initial` parts or granules (up to 8,192 rows each) are left to read."""

    selected: int = 0
    initial: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """One step of choosing what to read, in the engine's order.

    source: "logs", or the projection that is read in its place. type: as ClickHouse says, "PrimaryKey", "Skip" ….
    name, description: of a skip index. condition: what is asked of the keys, None where nothing is.
    """

    source: str
    type: str
    name: str | None
    description: str | None
    keys: tuple[str, ...]
    condition: str | None
    parts: Selected
    granules: Selected


@dataclass(frozen=True, slots=True)
class Measured:
    """What running it cost. rows: of the answer. memory: the most bytes it held, None when it was too quick to see."""

    rows: int
    rows_read: int
    bytes_read: int
    milliseconds: float
    memory: int | None


@dataclass(frozen=True, slots=True)
class Explained:
    """projections: read in place of the table. rows: how many are read, estimated. measured: None when it was not run.

    parts, granules: what all indexes together leave.
    """

    sql: str
    parameters: Mapping[str, object]
    indexes: list[Index]
    projections: list[str]
    parts: Selected
    granules: Selected
    rows: int
    measured: Measured | None


class _Step(msgspec.Struct, rename=lambda name: name.replace("_", " ").title()):
    """An index of `EXPLAIN indexes = 1, json = 1` (ClickHouse `src/Processors/QueryPlan/ReadFromMergeTree.cpp`)."""

    type: str
    name: str | None = None
    description: str | None = None
    keys: tuple[str, ...] = ()
    condition: str | None = None
    initial_parts: int = 0
    selected_parts: int = 0
    initial_granules: int = 0
    selected_granules: int = 0


class _Node(msgspec.Struct, rename=lambda name: name.replace("_", " ").title()):
    node_type: str
    description: str = ""
    indexes: list[_Step] = []
    plans: list["_Node"] = []


class _Plan(msgspec.Struct, rename="pascal"):
    plan: _Node


class _Statistics(msgspec.Struct):
    elapsed: float
    rows_read: int
    bytes_read: int


class _Answer(msgspec.Struct):
    rows: int
    statistics: _Statistics


def parse_plan(text: str, table: str) -> tuple[list[Index], list[str]]:
    """The indexes and projections in the answer of `EXPLAIN indexes = 1, json = 1`. table: as the plan names it."""
    indexes: list[Index] = []
    projections: list[str] = []
    for plan in msgspec.json.decode(text, type=list[_Plan]):
        for node in _reads(plan.plan):
            source = TABLE if node.description == table else node.description
            if source != TABLE and source not in projections:
                projections.append(source)
            indexes += [_index(source, step) for step in node.indexes]
    return indexes, projections


def _reads(node: _Node) -> Iterator[_Node]:
    if node.node_type == _MERGE_TREE:
        yield node
    for child in node.plans:
        yield from _reads(child)


def _index(source: str, step: _Step) -> Index:
    return Index(
        source,
        step.type,
        step.name,
        step.description,
        step.keys,
        None if step.condition == "true" else step.condition,
        Selected(step.selected_parts, step.initial_parts),
        Selected(step.selected_granules, step.initial_granules),
    )


def _whole(indexes: list[Index], of: str) -> Selected:
    """Over all sources: what the first index of each began with, and the last one left."""
    first: dict[str, Selected] = {}
    last: dict[str, Selected] = {}
    for index in indexes:
        counts: Selected = getattr(index, of)
        first.setdefault(index.source, counts)
        last[index.source] = counts
    return Selected(sum(one.selected for one in last.values()), sum(one.initial for one in first.values()))


class Explainer:
    """Explains queries of a stream. Every method raises StoreUnavailable, and TooExpensive within a read."""

    def __init__(self, store: Store, limits: QueryLimits | None = None, times: PartTimes | None = None) -> None:
        self._store = store
        self._limits = limits or QueryLimits()
        self._times = times

    async def explain(self, stream: Stream, asked: Analysis, *, limit: int, now_ns: int, analyze: bool) -> Explained:
        """How `asked` is answered with at most `limit` rows; analyze: run it, and say what that cost.

        On a cluster indexes, parts and estimates are those of the one replica that is asked, cost is of all shards.
        Raises QuerySyntaxError, and InvalidValue for a range that the limits refuse.
        """
        made = statement(stream, asked, self._limits, limit=limit + 1, now_ns=now_ns, times=self._times)
        local = self._store.local(stream)
        # A cluster's plan is "ask the shards": what one of them does with the same question tells more.
        planned = replace(made, sql=re.sub(rf"\b{stream.database}\.{TABLE}\b", local, made.sql))
        plan = await self._ask("EXPLAIN indexes = 1, json = 1", planned)
        estimate = await self._ask("EXPLAIN ESTIMATE", planned)
        indexes, projections = parse_plan(plan[0][0], local)
        return Explained(
            sql=made.sql,
            parameters=made.parameters,
            indexes=indexes,
            projections=projections,
            parts=_whole(indexes, "parts"),
            granules=_whole(indexes, "granules"),
            rows=sum(rows for _, _, _, rows, _ in estimate),
            measured=await self._measure(made) if analyze else None,
        )

    async def _ask(self, what: str, asked: Statement) -> list[tuple]:  # type: ignore[type-arg]
        rows = await self._store.query(f"{what} {asked.sql}", asked.parameters, settings=self._limits.settings)
        return list(rows.rows)

    async def _measure(self, asked: Statement) -> Measured:
        cost = COST.get() or Cost()
        seen: list[int] = []
        # Not in the context of the read: looking is no part of what it costs.
        looking = asyncio.create_task(self._look(cost.tag, seen), context=Context())
        token = COST.set(cost)
        try:
            # This format tells what was read on a real ClickHouse and on the embedded engine alike.
            body = await self._store.query_bytes(
                asked.sql, asked.parameters, fmt="JSONCompact", settings=self._limits.settings
            )
        finally:
            COST.reset(token)
            looking.cancel()
        answer = msgspec.json.decode(body, type=_Answer)
        told = answer.statistics
        return Measured(
            answer.rows, told.rows_read, told.bytes_read, round(told.elapsed * 1000, 3), max(seen, default=None)
        )

    async def _look(self, tag: str, seen: list[int]) -> None:
        """Note the memory of the read's statement until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(StoreUnavailable):
                progress = await self._store.progress()
                if tag in progress:
                    seen.append(progress[tag].memory)
