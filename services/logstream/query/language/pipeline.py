"""A query with its pipes as one SELECT.

Each pipe changes the statement under way, and makes it a subquery of the next one only where SQL's order of clauses
would mean something else. Names that users give never become SQL: columns are called r0, r1 … and `Statement.columns`
says what they are called outside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from logstream.query.condition import Condition
from logstream.query.language import nodes as n
from logstream.query.language import quantity, text
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.patterned import Steps, count_sql, steps
from logstream.query.language.result import Column, Value, WrongKind, condition_sql, severity
from logstream.query.language.sql import Parameters, filter_sql
from logstream.storage.schema import BUCKET, MINUTE_NS


class _Key(NamedTuple):
    """A term of ORDER BY."""

    sql: str
    suffix: str = ""


_NEWEST = tuple(_Key(sql, " DESC") for sql in (BUCKET, "timestamp", "partition", "offset", "row"))
_Place = tuple[n.Name, str, Value]
"""Where a column is written, what it is called, and what it is."""
_STORED = "timestamp, service, level, message, metadata, trace_id, span_id, partition, offset, row"
_NS = "toUnixTimestamp64Nano(timestamp)"


Step = n.Stats | n.Timechart | n.Top | n.Fields | n.Sort | n.Limit | n.Extract | n.Where


@dataclass(frozen=True, slots=True)
class Statement:
    """columns: of the answer, in order. patterns: what makes the answer of what `sql` gives; None: that is it.

    backwards: the rows come in the reverse of their order, so that a limit leaves out the first and not the last.
    """

    sql: str
    parameters: dict[str, object]
    columns: tuple[Column, ...]
    patterns: Steps | None = None
    backwards: bool = False


_LINE: dict[str, Value] = {
    "timestamp": Value(_NS, "time"),
    "service": Value("service", "text", "service != ''"),
    "level": Value("toString(level)", "level"),
    "message": Value("message", "text", "message != ''"),
    "metadata": Value("metadata", "map"),
    "trace_id": Value("trace_id", "text", "trace_id != ''"),
    "span_id": Value("span_id", "text", "span_id != ''"),
}


_COUNTED: dict[str, Value] = {name: _LINE[name] for name in ("service", "level")} | {
    "timestamp": Value("minute", "time")
}


@dataclass(frozen=True, slots=True)
class _State:
    """One SELECT under way.

    fields: what pipes to come can name, in order. lines: whether any other name is a metadata key. aggregated: whether
    rows are groups already, of `group` (none: one row). having: conditions on groups. limit: rows, None when not
    limited yet. count: the number of lines in a group. chart: whether the order is by time, ascending.
    """

    source: str
    fields: dict[str, Value]
    lines: bool
    where: tuple[str, ...] = ()
    aggregated: bool = False
    group: tuple[str, ...] = ()
    having: tuple[str, ...] = ()
    order: tuple[_Key, ...] = ()
    limit: int | None = None
    count: str = "count()"
    chart: bool = False

    def select(self, columns: list[str]) -> str:
        sql = f"SELECT {', '.join(columns)} FROM {self.source}"  # noqa: S608 — our own names and parameters
        for clause, terms, glue in (
            (" WHERE ", self.where, " AND "), (" GROUP BY ", self.group, ", "), (" HAVING ", self.having, " AND "),
            (" ORDER BY ", [key.sql + key.suffix for key in self.order], ", "),
        ):  # fmt: skip
            if terms:
                sql += clause + glue.join(terms)
        return sql if self.limit is None else f"{sql} LIMIT {self.limit}"


def compile_query(
    query: n.Query, *, table: str, where: Condition | None = None, counts: Condition | None = None, limit: int
) -> Statement:
    """`query` over the logs table `table`, which is SQL and the caller's own, as is `where`, a further condition.

    counts: the same lines as a table of counts, with the filter of `query` and `where` applied, to be read instead: its
    columns are lines and what `counted_by` names. limit: the most rows the answer may have. Lines come newest first
    where no pipe says otherwise; of a chart over time the newest rows are kept. Raises QuerySyntaxError for a field
    that an earlier pipe has left out, and for what cannot be computed of a field.
    """
    compiler = _Compiler(table, Parameters())
    condition = filter_sql(query.filter, compiler.parameters)
    conditions = (condition,) if where is None else (condition, where.sql)
    state = _State(table, dict(_LINE), lines=True, where=conditions, order=_NEWEST)
    if counts is not None:
        compiler, where = _Compiler(table, Parameters()), counts
        state = _State(counts.sql, dict(_COUNTED), lines=False, count="sum(lines)")
    for place, pipe in enumerate(query.pipes, 1):
        if isinstance(pipe, n.Patterns):
            left = steps(pipe, query.pipes[place:])
            return Statement(compiler.shapes(state, pipe), compiler.values(where), left.columns, left)
        state = compiler.apply(state, pipe)
    backwards = state.chart and state.limit is None
    if backwards:
        state = replace(state, order=tuple(_Key(key.sql, " DESC NULLS FIRST") for key in state.order))
    state = replace(state, limit=min(limit, state.limit or limit))
    sql = state.select([f"{value.sql} AS r{i}" for i, value in enumerate(state.fields.values())])
    columns = tuple(Column(name, value.kind) for name, value in state.fields.items())
    return Statement(sql, compiler.values(where), columns, backwards=backwards)


class _Compiler:
    def __init__(self, table: str, parameters: Parameters) -> None:
        self._table = table
        self.parameters = parameters
        self._aliases = 0

    def values(self, where: Condition | None) -> dict[str, object]:
        """What is bound so far, and in `where`."""
        return self.parameters.values | (where.parameters if where else {})

    def shapes(self, state: _State, pipe: n.Patterns) -> str:
        """`state` with the pipe `patterns`, which is the last that is SQL."""
        state = self._free(state)
        message = self._single(state, n.Name("message", pipe.column))
        return count_sql(replace(state, order=()).select([f"{message.sql} AS m"]))

    def apply(self, state: _State, pipe: Step) -> _State:
        match pipe:
            case n.Stats(aggregates, by):
                return self._grouped(self._free(state), aggregates, by)
            case n.Timechart(_, aggregates, by):
                return self._grouped(self._free(state), aggregates, by, pipe)
            case n.Top():
                return self._top(self._free(state), pipe)
            case n.Fields(names):
                columns = [(name, name.text, self._resolve(state, name)) for name in names]
                return replace(state, fields=_columns(columns), lines=False)
            case n.Sort(keys):
                return self._sorted(state if state.limit is None else self._sealed(state, ordered=True), keys)
            case n.Limit(count):
                return replace(state, limit=min(count, state.limit or count))
            case n.Extract():
                return self._extracted(state, pipe)
            case n.Where():
                return self._filtered(state, pipe)

    def _resolve(self, state: _State, name: n.Name) -> Value:
        known = state.fields.get(name.text)
        if known is not None:
            return known
        if not state.lines:
            raise QuerySyntaxError(
                f"there is no field {name.text[:60]!r} any more: expected {', '.join(state.fields)}",
                column=name.column,
                expected=list(state.fields),
            )
        return self._key(name.text.removeprefix("metadata.") or name.text)

    def _key(self, name: str) -> Value:
        key = self.parameters.bind(name, "String")
        return Value(f"metadata[{key}]", "text", f"mapContains(metadata, {key})", optional=True)

    def _single(self, state: _State, name: n.Name) -> Value:
        value = self._resolve(state, name)
        if value.kind == "map":
            raise QuerySyntaxError(
                "metadata is every key at once: name one, as metadata.key",
                column=name.column,
                expected=["metadata.key"],
            )
        return value

    def _number(self, state: _State, name: n.Name) -> str:
        value = self._single(state, name)
        if value.kind == "level":
            raise QuerySyntaxError(f"{name.text} is no number", column=name.column, expected=["a numeric field"])
        return self._as_number(value.sql) if value.kind == "text" else value.sql

    def _as_number(self, sql: str) -> str:
        return quantity.to_sql(sql, quantity.Kind.NUMBER, self.parameters.bind)

    def _sortable(self, value: Value) -> str:
        return severity(value.sql, self.parameters) if value.kind == "level" else value.sql

    def _free(self, state: _State) -> _State:
        """`state`, ready for another GROUP BY."""
        return self._sealed(state) if state.aggregated or state.limit is not None else state

    def _sealed(self, state: _State, *, ordered: bool = False) -> _State:
        """A new statement whose source is `state`. ordered: it has its order, too."""
        kept = {name for name, value in state.fields.items() if state.lines and _LINE.get(name) == value}
        columns = [_STORED] if state.lines else []
        fields: dict[str, Value] = {}
        for name, value in state.fields.items():
            if name in kept:
                fields[name] = value
                continue
            alias = self._alias(value.sql, columns)
            present = f"{alias} != ''" if value.kind in ("text", "level") else f"isNotNull({alias})"
            fields[name] = Value(alias, value.kind, present)
        order: tuple[_Key, ...] = ()
        if ordered:
            same = state.lines and state.order == _NEWEST
            order = _NEWEST if same else tuple(_Key(self._alias(key.sql, columns), key.suffix) for key in state.order)
        if state.limit is None:
            state = replace(state, order=())
        return _State(f"({state.select(columns)})", fields, lines=state.lines, order=order)

    def _alias(self, sql: str, columns: list[str]) -> str:
        """A new name for `sql`, which is added to `columns`."""
        alias = f"c{self._aliases}"
        self._aliases += 1
        columns.append(f"{sql} AS {alias}")
        return alias

    def _filtered(self, state: _State, pipe: n.Where) -> _State:
        if state.limit is not None:
            state = self._sealed(state, ordered=True)
        terms = tuple(self._condition(state, term, pipe.column) for term in _conjuncts(pipe.filter))
        if state.aggregated:
            return replace(state, having=state.having + terms)
        return replace(state, where=state.where + terms)

    def _condition(self, state: _State, asked: n.Filter, column: int) -> str:
        def resolve(field: n.Field) -> Value:
            if field.column == "metadata" and state.lines and state.fields.get(field.key) == _LINE.get(field.key):
                return self._key(field.key)
            return self._single(state, n.Name(field.name, column))

        names = {field.name for field in n.fields_of(asked)}
        if state.lines and state.source == self._table and all(state.fields.get(x) == _LINE.get(x) for x in names):
            return filter_sql(asked, self.parameters)
        try:
            return condition_sql(asked, resolve, self.parameters)
        except WrongKind as error:
            raise QuerySyntaxError(str(error), column=column) from None

    def _grouped(
        self,
        state: _State,
        aggregates: tuple[n.Aggregate, ...],
        by: tuple[n.Name, ...],
        chart: n.Timechart | None = None,
    ) -> _State:
        keys = [(name, name.text, self._single(state, name)) for name in by]
        if chart is not None:
            name = n.Name("timestamp", chart.column)
            found = self._resolve(state, name)
            if found.kind != "time":
                raise QuerySyntaxError("timestamp is no time any more", column=chart.column)
            time, width = found.sql, self.parameters.bind(chart.span, "Int64")
            # positiveModulo: buckets before 1970 begin where they should, too.
            keys.insert(0, (name, name.text, Value(f"{time} - positiveModulo({time}, {width})", "time")))
        results = [
            (n.Name(one.label, one.column), one.label, self._aggregate(state, one.function, one)) for one in aggregates
        ]
        group = tuple(value.sql for _, _, value in keys)
        order = tuple(_Key(self._sortable(value)) for _, _, value in keys)
        fields = _columns(_groups(keys) + results)
        return replace(
            state, fields=fields, lines=False, aggregated=True, group=group, order=order, chart=chart is not None
        )

    def _aggregate(self, state: _State, function: n.Function, aggregate: n.Aggregate) -> Value:
        argument = aggregate.argument
        if argument is None:
            return Value(state.count, "number")
        if function in (n.Function.COUNT, n.Function.COUNT_DISTINCT):
            value = self._single(state, argument)
            counts = function is n.Function.COUNT
            return Value(f"countIf({value.present})" if counts else f"uniqIf({value.sql}, {value.present})", "number")
        value = self._single(state, argument)
        if value.kind == "time" and function in (n.Function.MIN, n.Function.MAX):
            return Value(f"{function.value}OrNull({value.sql})", "time")
        call = {
            n.Function.MEDIAN: "quantileTDigest(0.5)",
            n.Function.PERCENTILE: f"quantileTDigest({aggregate.percent / 100:.6g})",
        }.get(function, function.value)
        return Value(f"{call}({self._number(state, argument)})", "number")

    def _top(self, state: _State, pipe: n.Top) -> _State:
        keys = [(name, name.text, self._single(state, name)) for name in pipe.fields]
        group = tuple(value.sql for _, _, value in keys)
        results = [
            (pipe.fields[0], "count", Value(state.count, "number")),
            (pipe.fields[0], "percent", Value(f"{state.count} * 100 / sum({state.count}) OVER ()", "number")),
        ]
        return replace(
            state,
            fields=_columns(_groups(keys) + results),
            lines=False,
            where=(*state.where, *(value.present for _, _, value in keys if value.present != "1")),
            aggregated=True,
            group=group,
            order=(_Key(state.count, "" if pipe.rare else " DESC"), *map(_Key, group)),
            limit=pipe.limit,
            chart=False,
        )

    def _sorted(self, state: _State, keys: tuple[n.SortKey, ...]) -> _State:
        order: list[_Key] = []
        for key in keys:
            value = self._single(state, key.field)
            direction = " DESC" if key.descending else ""
            if value.kind == "text":
                # Numbers first and as numbers, then everything else as text.
                order.append(_Key(self._as_number(value.sql), f"{direction} NULLS LAST"))
            order.append(_Key(self._sortable(value), direction))
        return replace(state, order=(*order, *state.order), chart=False)

    def _extracted(self, state: _State, pipe: n.Extract) -> _State:
        source = self._single(state, pipe.source)
        if source.kind != "text":
            raise QuerySyntaxError(f"{pipe.source.text} is no text", column=pipe.source.column)
        groups = f"extractGroups({source.sql}, {self.parameters.bind(_template(pipe), 'String')})"
        named = [name for name in pipe.names if name]
        made = {name: Value(f"{groups}[{i}]", "text", f"{groups}[{i}] != ''") for i, name in enumerate(named, start=1)}
        return replace(state, fields=state.fields | made)


def counted_by(pipes: Sequence[n.Pipe]) -> tuple[str, ...] | None:
    """What lines must be counted by for `pipes`: some of minute, service and level. None where lines are needed."""
    names: tuple[n.Name, ...]
    aggregates: tuple[n.Aggregate, ...] = ()
    minute: tuple[str, ...] = ()
    match pipes[0] if pipes else None:
        case n.Stats(aggregates, names):
            pass
        case n.Timechart(span, aggregates, names) if span % MINUTE_NS == 0:
            minute = ("minute",)
        case n.Top(_, names):
            pass
        case _:
            return None
    counts = all(one.function is n.Function.COUNT and one.argument is None for one in aggregates)
    if not counts or not all(name.text in ("service", "level") for name in names):
        return None
    return (*minute, *dict.fromkeys(name.text for name in names))


def _conjuncts(asked: n.Filter) -> Iterator[n.Filter]:
    """One by one, so that those about the table's columns can use its indexes whatever the others are about."""
    yield from asked.operands if isinstance(asked, n.And) else (asked,)


def _groups(keys: list[_Place]) -> list[_Place]:
    """`keys` as columns of groups, which know no more whether a key is missing or empty."""
    return [
        (name, label, replace(value, present="1" if value.kind == "time" else f"{value.sql} != ''", optional=False))
        for name, label, value in keys
    ]


def _columns(columns: list[_Place]) -> dict[str, Value]:
    """`columns` (where it is written, name, value) by name."""
    fields: dict[str, Value] = {}
    for place, name, value in columns:
        if name in fields:
            raise QuerySyntaxError(f"two columns are called {name[:60]!r}: use `as`", column=place.column)
        fields[name] = value
    return fields


def _template(pipe: n.Extract) -> str:
    """The template as a regular expression: each placeholder takes as little as it can, a last one all the rest."""
    pattern = text.re2_escaped(pipe.literals[0])
    for i, (name, literal) in enumerate(zip(pipe.names, pipe.literals[1:], strict=True), start=1):
        rest = ".*" if i == len(pipe.names) and not literal else ".*?"
        pattern += (f"({rest})" if name else f"(?:{rest})") + text.re2_escaped(literal)
    return pattern
