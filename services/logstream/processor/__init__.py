"""From the log into ClickHouse, exactly once: see docs/guarantees.md.

`plan` chooses what one INSERT holds (pure), `window` which records repeat an earlier request (pure), `worker` runs
one partition with what `intake` reads, `resume` takes one over, `poison` takes apart what ClickHouse refuses,
`letter` says what becomes of it, `budget` shares memory and INSERTs between partitions, `service` runs all
partitions of all streams. `replay` builds days anew from the log.
"""

from logstream.processor.health import Health
from logstream.processor.service import serve
from logstream.processor.streams import FixedStreams, StreamSource
from logstream.processor.window import Deduplication

__all__ = ["Deduplication", "FixedStreams", "Health", "StreamSource", "serve"]
