"""A query with its pipes as one SELECT.

Each pipe changes the statement under way, and makes it a subquery of the next one only where SQL's order of clauses
would mean something else. Names that users give never become SQL: columns are called r0, r1 … and `Statement.columns`
says what they are called outside.
"""

from dataclasses import dataclass, replace
from typing import Literal

from logstream.query.condition import Condition
from logstream.query.language import nodes as n
from logstream.query.language import quantity, text
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.sql import Parameters, filter_sql
from logstream.record import LEVEL_LABELS
from logstream.storage.schema import NEWEST_FIRST

Kind = Literal["text", "number", "time", "level", "map"]

_NEWEST = f"{NEWEST_FIRST}, partition DESC, offset DESC, row DESC"
_STORED = "timestamp, service, level, message, metadata, trace_id, span_id, partition, offset, row"
_NS = "toUnixTimestamp64Nano(timestamp)"


@dataclass(frozen=True, slots=True)
class Statement:
    """columns: what the columns of the answer are called, in order. Times are nanoseconds since the epoch."""

    sql: str
    parameters: dict[str, object]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    """A field as SQL. present: whether a row has it."""

    sql: str
    kind: Kind
    present: str = "1"


_LINE: dict[str, _Value] = {
    "timestamp": _Value(_NS, "time"),
    "service": _Value("service", "text", "service != ''"),
    "level": _Value("toString(level)", "level"),
    "message": _Value("message", "text", "message != ''"),
    "metadata": _Value("metadata", "map"),
    "trace_id": _Value("trace_id", "text", "trace_id != ''"),
    "span_id": _Value("span_id", "text", "span_id != ''"),
}


@dataclass(frozen=True, slots=True)
class _State:
    """One SELECT under way.

    fields: what pipes to come can name, in order. lines: whether any other name is a metadata key. aggregated: whether
    rows are groups already, of `group` (none: one row). limit: rows, None when not limited yet.
    """

    source: str
    fields: dict[str, _Value]
    lines: bool
    where: tuple[str, ...] = ()
    aggregated: bool = False
    group: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    limit: int | None = None

    def select(self, columns: list[str]) -> str:
        sql = f"SELECT {', '.join(columns)} FROM {self.source}"  # noqa: S608 — our own names and parameters
        for clause, terms, glue in (
            (" WHERE ", self.where, " AND "), (" GROUP BY ", self.group, ", "), (" ORDER BY ", self.order, ", "),
        ):  # fmt: skip
            if terms:
                sql += clause + glue.join(terms)
        return sql if self.limit is None else f"{sql} LIMIT {self.limit}"


def compile_query(query: n.Query, *, table: str, where: Condition | None = None, limit: int) -> Statement:
    """`query` over the logs table `table`, which is SQL and the caller's own, as is `where`, a further condition.

    limit: the most rows the answer may have. Lines come newest first where no pipe says otherwise. Raises
    QuerySyntaxError for a field that an earlier pipe has left out, and for what cannot be computed of a field.
    """
    compiler = _Compiler(Parameters())
    condition = filter_sql(query.filter, compiler.parameters)
    conditions = (condition,) if where is None else (condition, where.sql)
    state = _State(table, dict(_LINE), lines=True, where=conditions, order=(_NEWEST,))
    for pipe in query.pipes:
        state = compiler.apply(state, pipe)
    state = replace(state, limit=min(limit, state.limit or limit))
    sql = state.select([f"{value.sql} AS r{i}" for i, value in enumerate(state.fields.values())])
    return Statement(sql, compiler.parameters.values | (where.parameters if where else {}), tuple(state.fields))


class _Compiler:
    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._aliases = 0

    def apply(self, state: _State, pipe: n.Pipe) -> _State:
        match pipe:
            case n.Stats(aggregates, by):
                return self._grouped(self._free(state), aggregates, by)
            case n.Timechart(span, aggregates, by):
                return self._grouped(self._free(state), aggregates, by, span)
            case n.Top():
                return self._top(self._free(state), pipe)
            case n.Fields(names):
                columns = [(name, name.text, self._resolve(state, name)) for name in names]
                return replace(state, fields=_columns(columns), lines=False)
            case n.Sort(keys):
                return self._sorted(state if state.limit is None else self._sealed(state), keys)
            case n.Limit(count):
                return replace(state, limit=min(count, state.limit or count))
            case n.Extract():
                return self._extracted(state, pipe)
            case n.Patterns(column):
                raise QuerySyntaxError("patterns cannot be asked for in this place", column=column)

    def _resolve(self, state: _State, name: n.Name) -> _Value:
        known = state.fields.get(name.text)
        if known is not None:
            return known
        if not state.lines:
            raise QuerySyntaxError(
                f"there is no field {name.text[:60]!r} any more: expected {', '.join(state.fields)}",
                column=name.column,
                expected=list(state.fields),
            )
        key = self.parameters.bind(name.text.removeprefix("metadata.") or name.text, "String")
        return _Value(f"metadata[{key}]", "text", f"mapContains(metadata, {key})")

    def _single(self, state: _State, name: n.Name) -> _Value:
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

    def _severity(self, label: str) -> str:
        return f"indexOf({self.parameters.bind(list(LEVEL_LABELS), 'Array(String)')}, {label})"

    def _free(self, state: _State) -> _State:
        """`state`, ready for another GROUP BY."""
        return self._sealed(state) if state.aggregated or state.limit is not None else state

    def _sealed(self, state: _State) -> _State:
        """A new statement whose source is `state`."""
        kept = {name for name, value in state.fields.items() if state.lines and _LINE.get(name) == value}
        columns = [_STORED] if state.lines else []
        fields: dict[str, _Value] = {}
        for name, value in state.fields.items():
            if name in kept:
                fields[name] = value
                continue
            alias = f"c{self._aliases}"
            self._aliases += 1
            columns.append(f"{value.sql} AS {alias}")
            present = f"{alias} != ''" if value.kind in ("text", "level") else f"isNotNull({alias})"
            fields[name] = _Value(alias, value.kind, present)
        if state.limit is None:
            state = replace(state, order=())
        return _State(f"({state.select(columns)})", fields, lines=state.lines)

    def _grouped(
        self, state: _State, aggregates: tuple[n.Aggregate, ...], by: tuple[n.Name, ...], span: int | None = None
    ) -> _State:
        keys = [(name, name.text, self._single(state, name)) for name in by]
        if span is not None:
            name = n.Name("timestamp")
            time, width = self._resolve(state, name).sql, self.parameters.bind(span, "Int64")
            # positiveModulo: buckets before 1970 begin where they should, too.
            keys.insert(0, (name, name.text, _Value(f"{time} - positiveModulo({time}, {width})", "time")))
        results = [
            (n.Name(one.label, one.column), one.label, self._aggregate(state, one.function, one)) for one in aggregates
        ]
        group = tuple(value.sql for _, _, value in keys)
        order = tuple(self._severity(value.sql) if value.kind == "level" else value.sql for _, _, value in keys)
        return replace(state, fields=_columns(keys + results), lines=False, aggregated=True, group=group, order=order)

    def _aggregate(self, state: _State, function: n.Function, aggregate: n.Aggregate) -> _Value:
        argument = aggregate.argument
        if argument is None:
            return _Value("count()", "number")
        if function in (n.Function.COUNT, n.Function.COUNT_DISTINCT):
            value = self._single(state, argument)
            counts = function is n.Function.COUNT
            return _Value(f"countIf({value.present})" if counts else f"uniqIf({value.sql}, {value.present})", "number")
        call = {
            n.Function.MEDIAN: "quantileTDigest(0.5)",
            n.Function.PERCENTILE: f"quantileTDigest({aggregate.percent / 100:.6g})",
        }.get(function, function.value)
        return _Value(f"{call}({self._number(state, argument)})", "number")

    def _top(self, state: _State, pipe: n.Top) -> _State:
        keys = [(name, name.text, self._single(state, name)) for name in pipe.fields]
        group = tuple(value.sql for _, _, value in keys)
        results = [
            (pipe.fields[0], "count", _Value("count()", "number")),
            (pipe.fields[0], "percent", _Value("count() * 100 / sum(count()) OVER ()", "number")),
        ]
        return replace(
            state,
            fields=_columns(keys + results),
            lines=False,
            where=(*state.where, *(value.present for _, _, value in keys if value.present != "1")),
            aggregated=True,
            group=group,
            order=("count()" if pipe.rare else "count() DESC", *group),
            limit=pipe.limit,
        )

    def _sorted(self, state: _State, keys: tuple[n.SortKey, ...]) -> _State:
        order: list[str] = []
        for key in keys:
            value = self._single(state, key.field)
            direction = " DESC" if key.descending else ""
            if value.kind == "level":
                order.append(self._severity(value.sql) + direction)
                continue
            if value.kind == "text":
                # Numbers first and as numbers, then everything else as text.
                order.append(f"{self._as_number(value.sql)}{direction} NULLS LAST")
            order.append(f"{value.sql}{direction}")
        ties = state.group if state.aggregated else (_NEWEST,) if state.lines else ()
        return replace(state, order=(*order, *ties))

    def _extracted(self, state: _State, pipe: n.Extract) -> _State:
        source = self._single(state, pipe.source)
        if source.kind != "text":
            raise QuerySyntaxError(f"{pipe.source.text} is no text", column=pipe.source.column)
        groups = f"extractGroups({source.sql}, {self.parameters.bind(_template(pipe), 'String')})"
        named = [name for name in pipe.names if name]
        made = {name: _Value(f"{groups}[{i}]", "text", f"{groups}[{i}] != ''") for i, name in enumerate(named, start=1)}
        return replace(state, fields=state.fields | made)


def _columns(columns: list[tuple[n.Name, str, _Value]]) -> dict[str, _Value]:
    """`columns` (where it is written, name, value) by name."""
    fields: dict[str, _Value] = {}
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
