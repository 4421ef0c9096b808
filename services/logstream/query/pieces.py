"""From records of the bus to pieces of a bounded number of lines."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields

from logstream.bus import header
from logstream.bus.header import Kind, MalformedRecord
from logstream.bus.protocol import Message
from logstream.logs import get_logger
from logstream.query.cursor import BEGINNING, Position
from logstream.query.frames import Piece
from logstream.record import Batch
from logstream.storage import block
from logstream.storage.block import MalformedBlock

PIECE_ROWS = 1_000
PIECE_BYTES = 1024 * 1024
# Decoding takes about a microsecond a line: what would hold up the event loop for milliseconds goes to a thread.
_THREAD_ROWS = 5_000

_log = get_logger("tail")
_COLUMNS = tuple(field.name for field in fields(Batch))


async def cut(message: Message, start: Position = BEGINNING) -> AsyncIterator[tuple[Piece | None, Position]]:
    """`message` in pieces of about PIECE_ROWS lines and PIECE_BYTES, and the position behind each.

    Lines before `start` are left out. A record without lines of its own kind is one None: the position moves on.
    """
    after = Position(message.offset + 1)
    try:
        head, payload = header.decode(message.value)
        if head.kind is not Kind.BLOCK or head.rows == 0:
            yield None, after
            return
        if head.rows > _THREAD_ROWS:
            batch = await asyncio.to_thread(block.decode, payload, head.rows)
        else:
            batch = block.decode(payload, head.rows)
    except (MalformedRecord, MalformedBlock) as error:
        # The processor makes a dead letter of it; a tail goes on behind it.
        _log.error("record cannot be decoded", offset=message.offset, reason=str(error))
        yield None, after
        return
    skipped = start.row if start.offset == message.offset else 0
    if skipped >= len(batch):
        yield None, after
        return
    for first, piece in _slices(batch, skipped, len(payload)):
        last = first + len(piece)
        yield Piece(message.offset, first, piece), after if last == len(batch) else Position(message.offset, last)


def _slices(batch: Batch, first: int, size: int) -> Iterator[tuple[int, Batch]]:
    rows = max(1, min(PIECE_ROWS, PIECE_BYTES * len(batch) // max(1, size)))
    if first == 0 and len(batch) <= rows:
        yield 0, batch
        return
    for start in range(first, len(batch), rows):
        yield start, Batch(*(getattr(batch, name)[start : start + rows] for name in _COLUMNS))
