"""Answers of the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query. `rows` are tuples in the order of `column_names`."""

    column_names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
