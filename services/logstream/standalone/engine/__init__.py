"""The embedded ClickHouse engine (chDB) on ClickHouse's own HTTP interface."""

from logstream.standalone.engine.process import run

__all__ = ["run"]
