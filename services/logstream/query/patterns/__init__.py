"""Message templates: which kinds of line there are, how many of each, and an example.

Two steps. A fast pass reduces each message to its shape (`shape`): values with a digit are masked by one regular
expression that RE2, and so ClickHouse, understands as well. A million lines have a few hundred to a few thousand
shapes. A thorough pass then looks at the distinct shapes only (`tokens`, `merge`) and finds which words of them
are values too.
"""

from logstream.query.patterns.merge import learn
from logstream.query.patterns.shape import Seen, ShapeCounter, shape_of, shape_sql
from logstream.query.patterns.summary import Pattern, summarise
from logstream.query.patterns.template import Template

__all__ = ["Pattern", "Seen", "ShapeCounter", "Template", "learn", "shape_of", "shape_sql", "summarise"]
