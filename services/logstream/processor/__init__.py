"""From the log into ClickHouse, exactly once: see docs/guarantees.md.

`plan` chooses what one INSERT holds (pure), `worker` runs one partition, `poison` takes apart what ClickHouse
refuses, `letter` says what becomes of it, `service` runs all partitions of all streams.
"""

from logstream.processor.service import serve

__all__ = ["serve"]
