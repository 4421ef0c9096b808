"""The embedded log: Kafka's semantics in one SQLite file, for one process.

`bus` is the asynchronous face, `writer` the thread that commits, `log` what it commits, `retention` what it
deletes, `reader` the threads that read, `recent` the newest records in memory, `schema` the file itself.
"""

from logstream.bus.sqlite.bus import SqliteBus

__all__ = ["SqliteBus"]
