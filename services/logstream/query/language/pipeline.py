"""A query with its pipes as one SELECT.

Each pipe changes the statement under way, and makes it a subquery of the next one only where SQL's order of clauses
would mean something else. Names that users give never become SQL: columns are called c0, c1 … and `Statement.columns`
says what they are called outside.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from logstream.query.filter import Condition
from logstream.query.language import nodes as n
from logstream.query.language import quantity, text
from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.sql import Parameters, filter_sql
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

    fields: what pipes to come can name. lines: whether any other name is a metadata key. select: expression of each
    alias, when columns have been chosen. output: aliases or expressions by outer name, in order.
    """

    source: str
    fields: dict[str, _Value]
    lines: bool
    where: tuple[str, ...] = ()
    select: dict[str, str] = field(default_factory=dict)
    group: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    limit: int | None = None


def compile_query(query: n.Query, *, table: str, where: Condition | None = None, limit: int) -> Statement:
    """`query` over the logs table `table`, which is SQL and the caller's own, as is `where`, a further condition.

    limit: the most rows the answer may have. Raises QuerySyntaxError for a field that a pipe before has left out.
    """
    compiler = _Compiler(Parameters())
    conditions = [filter_sql(query.filter, compiler.parameters)]
    if where is not None:
        conditions.append(where.sql)
    state = _State(table, dict(_LINE), lines=True, where=tuple(conditions), order=(_NEWEST,))
    for pipe in query.pipes:
        state = compiler.apply(state, pipe)
    state = replace(state, limit=min(limit, state.limit or limit))
    values = compiler.parameters.values | (where.parameters if where is not None else {})
    chosen = [f"{value.sql} AS r{i}" for i, value in enumerate(state.fields.values())]
    # Aliases of columns already chosen are theirs; the outermost names are the caller's to map.
    sql = _select(state, list(state.fields.values()), chosen)
    return Statement(sql, values, tuple(state.fields))


def _select(state: _State, values: list[_Value], chosen: list[str]) -> str:
    if state.select:
        columns = [f"{expression} AS {alias}" for alias, expression in state.select.items()]
        order = [value.sql for value in values]
        assert order == list(state.select), "every chosen column has a name"
    else:
        columns = chosen
    return _text(state, columns)


def _text(state: _State, columns: list[str]) -> str:
    sql = f"SELECT {', '.join(columns)} FROM {state.source}"  # noqa: S608 — made of our own names and parameters
    if state.where:
        sql += f" WHERE {' AND '.join(state.where)}"
    if state.group:
        sql += f" GROUP BY {', '.join(state.group)}"
    if state.order:
        sql += f" ORDER BY {', '.join(state.order)}"
    if state.limit is not None:
        sql += f" LIMIT {state.limit}"
    return sql


class _Compiler:
    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._aliases = 0

    def apply(self, state: _State, pipe: n.Pipe) -> _State:
        match pipe:
            case n.Stats(aggregates, by):
                return self._grouped(state, aggregates, by)
            case n.Timechart(span, aggregates, by):
                return self._grouped(state, aggregates, by, span=span)
            case n.Top():
                return self._top(state, pipe)
            case n.Fields(names):
                return self._fields(state, names)
            case n.Sort(keys):
                return self._sorted(state, keys)
            case n.Limit(count):
                return replace(state, limit=min(count, state.limit or count))
            case n.Extract():
                return self._extracted(state, pipe)
            case n.Patterns(column):
                raise QuerySyntaxError("patterns cannot be combined with other pipes here", column=column)

    def _alias(self) -> str:
        self._aliases += 1
        return f"c{self._aliases - 1}"

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

    def _number(self, state: _State, name: n.Name) -> str:
        value = self._resolve(state, name)
        if value.kind in ("number", "time"):
            return value.sql
        if value.kind != "text":
            raise QuerySyntaxError(f"{name.text} is no number", column=name.column, expected=["a numeric field"])
        return quantity.to_sql(value.sql, quantity.Kind.NUMBER, self.parameters.bind)

    def _sealed(self, state: _State) -> _State:
        """`state` as the source of a statement to come."""
        if state.select:
            columns = [f"{expression} AS {alias}" for alias, expression in state.select.items()]
            fields = state.fields
        else:
            extra = {name: value for name, value in state.fields.items() if _LINE.get(name) != value}
            aliases = {name: self._alias() for name in extra}
            columns = [_STORED, *(f"{value.sql} AS {aliases[name]}" for name, value in extra.items())]
            fields = {
                name: _Value(aliases[name], value.kind, f"{aliases[name]} != ''") if name in aliases else value
                for name, value in state.fields.items()
            }
        order = state.order if state.limit is not None else ()
        return _State(f"({_text(replace(state, order=order), columns)})", fields, lines=state.lines)

    def _free(self, state: _State) -> _State:
        """`state`, ready for GROUP BY, WHERE or another choice of columns."""
        return self._sealed(state) if state.group or state.select or state.limit is not None else state

    def _chosen(self, state: _State, columns: list[tuple[str, str, Kind, int]]) -> _State:
        """`state` with `columns` (outer name, expression, kind, place in the query) and nothing else."""
        select: dict[str, str] = {}
        fields: dict[str, _Value] = {}
        for name, expression, kind, place in columns:
            if name in fields:
                raise QuerySyntaxError(f"two columns are called {name[:60]!r}", column=place)
            alias = self._alias()
            select[alias] = expression
            present = f"{alias} != ''" if kind == "text" else f"isNotNull({alias})"
            fields[name] = _Value(alias, kind, present)
        return replace(state, select=select, fields=fields, lines=False)

    def _keys(self, state: _State, names: tuple[n.Name, ...]) -> list[tuple[str, str, Kind, int]]:
        keys: list[tuple[str, str, Kind, int]] = []
        for name in names:
            value = self._resolve(state, name)
            if value.kind == "map":
                raise QuerySyntaxError("metadata is all keys at once: name one, as metadata.key", column=name.column)
            keys.append((name.text, value.sql, "text" if value.kind == "level" else value.kind, name.column))
        return keys

    def _grouped(
        self, state: _State, aggregates: tuple[n.Aggregate, ...], by: tuple[n.Name, ...], span: int | None = None
    ) -> _State:
        state = self._free(state)
        keys = self._keys(state, by)
        if span is not None:
            time = self._resolve(state, n.Name("timestamp"))
            width = self.parameters.bind(span, "Int64")
            # positiveModulo: buckets before 1970 begin where they should, too.
            keys.insert(0, ("timestamp", f"{time.sql} - positiveModulo({time.sql}, {width})", "time", 1))
        results = [self._aggregate(state, aggregate) for aggregate in aggregates]
        grouped = self._chosen(state, keys + results)
        group = tuple(list(grouped.select)[: len(keys)])
        return replace(grouped, group=group, order=group)

    def _aggregate(self, state: _State, aggregate: n.Aggregate) -> tuple[str, str, Kind, int]:
        function, argument = aggregate.function, aggregate.argument
        place = argument.column if argument else 1
        if argument is None:
            return aggregate.label, "count()", "number", place
        if function in (n.Function.COUNT, n.Function.COUNT_DISTINCT):
            value = self._resolve(state, argument)
            if value.kind == "map":
                raise QuerySyntaxError("metadata is all keys at once: name one, as metadata.key", column=place)
            counted = (
                f"countIf({value.present})" if function is n.Function.COUNT else f"uniqIf({value.sql}, {value.present})"
            )
            return aggregate.label, counted, "number", place
        number = self._number(state, argument)
        call = {
            n.Function.SUM: "sum", n.Function.AVG: "avg", n.Function.MIN: "min", n.Function.MAX: "max",
            n.Function.MEDIAN: "quantileTDigest(0.5)",
            n.Function.PERCENTILE: f"quantileTDigest({aggregate.percent / 100:.6g})",
        }[function]  # fmt: skip
        return aggregate.label, f"{call}({number})", "number", place

    def _top(self, state: _State, pipe: n.Top) -> _State:
        state = self._free(state)
        present = [self._resolve(state, name).present for name in pipe.fields]
        keys = self._keys(state, pipe.fields)
        chosen = self._chosen(state, [*keys, ("count", "count()", "number", 1), ("percent", "", "number", 1)])
        *group, count, percent = chosen.select
        select = chosen.select | {percent: f"{count} * 100 / sum({count}) OVER ()"}
        order = (count if pipe.rare else f"{count} DESC", *group)
        where = (*state.where, *(condition for condition in present if condition != "1"))
        return replace(chosen, select=select, where=where, group=tuple(group), order=order, limit=pipe.limit)

    def _fields(self, state: _State, names: tuple[n.Name, ...]) -> _State:
        if state.select:
            state = self._with_order(state)
        columns = []
        for name in names:
            value = self._resolve(state, name)
            columns.append((name.text, value.sql, value.kind, name.column))
        return self._chosen(state, columns)

    def _with_order(self, state: _State) -> _State:
        """`state` sealed, and its order kept by what comes after: a subquery's own order does not count."""
        sealed = self._sealed(state)
        return replace(sealed, order=state.order)

    def _sorted(self, state: _State, keys: tuple[n.SortKey, ...]) -> _State:
        if state.limit is not None:
            state = self._sealed(state)
        order: list[str] = []
        for key in keys:
            value = self._resolve(state, key.field)
            direction = " DESC" if key.descending else ""
            if value.kind == "map":
                raise QuerySyntaxError("metadata has no order: name one key", column=key.field.column)
            if value.kind == "level":
                order.append(f"level{direction}")
                continue
            if value.kind == "text":
                # Numbers first and as numbers, then everything else as text.
                number = quantity.to_sql(value.sql, quantity.Kind.NUMBER, self.parameters.bind)
                order.append(f"{number}{direction} NULLS LAST")
            order.append(f"{value.sql}{direction}")
        tail = (_NEWEST,) if state.lines else ()
        return replace(state, order=(*order, *tail))

    def _extracted(self, state: _State, pipe: n.Extract) -> _State:
        if state.select:
            state = self._with_order(state)
        source = self._resolve(state, pipe.source)
        if source.kind not in ("text", "level"):
            raise QuerySyntaxError(f"{pipe.source.text} is no text", column=pipe.source.column)
        groups = f"extractGroups({source.sql}, {self.parameters.bind(_template(pipe), 'String')})"
        named = [name for name in pipe.names if name]
        made = {name: _Value(f"{groups}[{i}]", "text", f"{groups}[{i}] != ''") for i, name in enumerate(named, start=1)}
        return replace(state, fields=state.fields | made)


def _template(pipe: n.Extract) -> str:
    """The template as a regular expression: each placeholder takes as little as it can, a last one all the rest."""
    pattern = text.re2_escaped(pipe.literals[0])
    for i, (name, literal) in enumerate(zip(pipe.names, pipe.literals[1:], strict=True), start=1):
        rest = ".*" if i == len(pipe.names) and not literal else ".*?"
        pattern += (f"({rest})" if name else f"(?:{rest})") + text.re2_escaped(literal)
    return pattern
