"""A piece of SQL with what is bound in it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """A boolean SQL expression and the values of its bound parameters."""

    sql: str
    parameters: dict[str, object]
