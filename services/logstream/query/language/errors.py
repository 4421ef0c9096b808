"""What is wrong with a query, and where."""

from collections.abc import Sequence

from logstream.errors import InvalidValue


class QuerySyntaxError(InvalidValue):
    """A query that cannot be read, or that asks for what there is not.

    column: where, counted in characters from 1. expected: what could have stood there, in words for people.
    """

    code = "query_syntax"

    def __init__(
        self, message: str, *, column: int, expected: Sequence[str] = (), limit: int | float | str | None = None
    ) -> None:
        super().__init__(f"{message} (column {column})", field="query", limit=limit)
        self.column = column
        self.expected = tuple(expected)

    def body(self) -> dict[str, dict[str, object]]:
        answer = super().body()
        answer["error"] |= {"column": self.column, "expected": list(self.expected)}
        return answer
