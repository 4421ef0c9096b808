"""The log on Kafka, by librdkafka (docs/adr/0013-kafka-client.md).

`bus` is the face; `producer` appends, `turns` spreads, `fetcher` reads partitions, `tails` gives one reader to many who
read, `member` belongs to a group and commits, `admin` asks about topics and positions, `letters` keeps dead letters
from being repeated, `waiting` counts what is in flight, `config` turns settings into librdkafka's, `faults` its errors
into ours.
"""

from logstream.bus.kafka.bus import KafkaBus

__all__ = ["KafkaBus"]
