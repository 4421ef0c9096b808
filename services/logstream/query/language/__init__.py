"""The query language: text → `parse` → a syntax tree → SQL (`to_sql`, `compile_query`) or a choice of
rows (`selector`, `predicate`).

For people: docs/query.md. Why it is made this way: docs/adr/0010-query-language.md.
"""

from logstream.query.language.errors import QuerySyntaxError
from logstream.query.language.parser import parse, parse_filter
from logstream.query.language.pipeline import Statement, compile_query
from logstream.query.language.select import predicate, selector
from logstream.query.language.sql import to_sql

__all__ = ["QuerySyntaxError", "Statement", "compile_query", "parse", "parse_filter", "predicate", "selector", "to_sql"]
