"""What is remembered of records in flight stays small, and small enough to be counted again."""

from collections import Counter

from logstream.bus.kafka.waiting import _CHUNK_BYTES, _CHUNKS, _Partition


def test_a_long_backlog_is_counted_in_chunks_of_about_the_same_size() -> None:
    known = _Partition()
    records = 3 * _CHUNKS
    for offset in range(records):
        known.add(offset, _CHUNK_BYTES, {("key1", offset // 1_000): 2})
    assert len(known.chunks) <= _CHUNKS
    assert max(chunk.end - chunk.first for chunk in known.chunks) <= 4
    assert [chunk.first for chunk in known.chunks[1:]] == [chunk.end for chunk in known.chunks[:-1]]
    counted: Counter[tuple[str, int]] = Counter()
    for chunk in known.chunks:
        counted.update(chunk.rows)
    assert counted.total() == 2 * records
