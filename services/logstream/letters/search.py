"""Finding letters: what memory can tell first, then texts, page by page.

A page is bounded work: when few of many letters match, it may hold fewer than asked for, and goes on with its cursor.
A cursor is one position per partition, below which the next page begins; letters of later are above the first page's
positions, so pages neither skip nor repeat a letter, whatever happens between them.
"""

import base64
import binascii
import hashlib
import heapq
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from logstream.bus.protocol import Message
from logstream.errors import InvalidValue
from logstream.letters.box import Found, LetterBox
from logstream.letters.format import Fields, LetterId
from logstream.letters.index import State
from logstream.settings import MIB

MAX_SCANNED = 5_000
_GROUP = 64
_GROUP_BYTES = 8 * MIB
_PAGE_BYTES = 16 * MIB
"""Of letters held for an answer: a page of large ones is short."""
_VERSION = 1
_HEAD = struct.Struct(">B4sIH")
_MAX_PARTITIONS = 1_024
_FOREVER = 2**32 - 1
EXPIRED = "expired"
STATES = frozenset({*(state.label for state in State), EXPIRED})


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """text: in message or reason, whatever the case. code: ClickHouse's. died_from, died_to: s, inclusive.

    states: by name; a letter that waits past its retention is `expired`.
    """

    text: str = ""
    services: tuple[str, ...] = ()
    key_id: str | None = None
    code: int | None = None
    states: frozenset[str] = STATES
    died_from: int = 0
    died_to: int = _FOREVER

    def takes(self, letter: Fields) -> bool:
        """What only the letter itself can tell."""
        record = letter.record or {}
        if self.code is not None and letter.clickhouse_code != self.code:
            return False
        if self.services and record.get("service") not in self.services:
            return False
        if not self.text:
            return True
        text = self.text.casefold()
        return text in letter.reason.casefold() or text in str(record.get("message", "")).casefold()


@dataclass(frozen=True, slots=True)
class LetterPage:
    """cursor: of the next page, None on the last. scanned: letters that were looked at."""

    letters: Sequence[Found]
    cursor: str | None
    scanned: int


async def page(
    box: LetterBox, wanted: LetterFilter, *, limit: int, retained_from: int = 0, cursor: str | None = None
) -> LetterPage:
    """At most `limit` letters, the newest first.

    retained_from: letters that died earlier (s) and wait have expired. Raises InvalidValue for a cursor that is none,
    Unavailable.
    """
    await box.fresh()
    before = [part.next for part in box.parts] if cursor is None else _positions(cursor, box)
    letters: list[Found] = []
    scanned = size = 0
    waiting = _candidates(box, wanted, before)
    exhausted = False
    while len(letters) < limit and scanned < MAX_SCANNED and size < _PAGE_BYTES and not exhausted:
        group, exhausted = _group(box, waiting)
        for letter, found in zip(group, await _fetch(box, group, retained_from), strict=True):
            if len(letters) >= limit:
                exhausted = False
                break
            before[letter.partition] = letter.offset
            scanned += 1
            if found is not None and found.label in wanted.states and wanted.takes(found.fields):
                letters.append(found)
                size += len(found.message.value)
    return LetterPage(letters, None if exhausted else _encode(box, before), scanned)


def _candidates(box: LetterBox, wanted: LetterFilter, before: Sequence[int]) -> Iterator[LetterId]:
    """Letters that may match, the newest first; of one partition always in the order of offsets."""

    states = frozenset(
        s for s in State if s.label in wanted.states or (s is State.WAITING and EXPIRED in wanted.states)
    )

    def of(partition: int) -> Iterator[tuple[int, int, LetterId]]:
        part = box.parts[partition]
        numbers = part.select(
            before=before[partition], states=states, key_id=wanted.key_id, died_from=wanted.died_from,
            died_to=wanted.died_to,
        )  # fmt: skip
        places = [(part.died(at), part.offsets[at]) for at in numbers[: MAX_SCANNED + _GROUP].tolist()]
        for died, offset in places:
            yield -died, -partition, LetterId(partition, offset)

    for _, _, letter in heapq.merge(*(of(partition) for partition in range(len(box.parts)))):
        yield letter


def _group(box: LetterBox, waiting: Iterator[LetterId]) -> tuple[list[LetterId], bool]:
    """The next letters to read together, and whether there are no more."""
    group: list[LetterId] = []
    size = 0
    for letter in islice(waiting, _GROUP):
        group.append(letter)
        size += box.size(letter)
        if size >= _GROUP_BYTES:
            return group, False
    return group, len(group) < _GROUP


async def _fetch(box: LetterBox, group: Sequence[LetterId], retained_from: int) -> list[Found | None]:
    messages: dict[LetterId, Message] = {}
    for partition in {letter.partition for letter in group}:
        offsets = sorted(letter.offset for letter in group if letter.partition == partition)
        read = await box.messages(partition, offsets)
        messages |= {LetterId(partition, offset): message for offset, message in read.items()}
    return [
        None if (message := messages.get(letter)) is None else box.found(message, died_from=retained_from)
        for letter in group
    ]


def _tag(box: LetterBox) -> bytes:
    return hashlib.sha256(box.stream.stream_id.encode()).digest()[:4]


def _encode(box: LetterBox, before: Sequence[int]) -> str:
    head = _HEAD.pack(_VERSION, _tag(box), box.topic.incarnation, len(before))
    return base64.urlsafe_b64encode(head + struct.pack(f">{len(before)}Q", *before)).rstrip(b"=").decode()


def _positions(text: str, box: LetterBox) -> list[int]:
    wrong = InvalidValue("cursor is not one that this list has given out: begin again without it", field="cursor")
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version, tag, incarnation, count = _HEAD.unpack_from(data)
        if version != _VERSION or count > _MAX_PARTITIONS:
            raise wrong
        positions = list(struct.unpack(f">{count}Q", data[_HEAD.size :]))
    except (binascii.Error, UnicodeEncodeError, ValueError, struct.error):
        raise wrong from None
    if tag != _tag(box) or incarnation != box.topic.incarnation or count != len(box.parts):
        raise wrong
    return positions
