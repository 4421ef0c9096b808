"""A request body of JSON: one object, an array of objects, or objects one after another (NDJSON).

The body is worked off in pieces of bounded size, so that the caller can let others run in between.
Per piece: typed decode of the whole; when that fails, groups of a few records; when a group fails, its
records one by one, leniently.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec

from logstream.collector.decode import lenient, typed
from logstream.errors import BadRequest, TooLarge
from logstream.record import Batch, Decoded, Record, Rejection
from logstream.settings import IngestLimits

PIECE_BYTES = 256 * 1024
_GROUP = 64
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_VALUES = msgspec.json.Decoder(msgspec.Raw)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_BETWEEN_ELEMENTS = re.compile(rb"\}[ \t\r\n]*,")
_COMMA = re.compile(rb",")
_CUT_ATTEMPTS = 4
_LARGE_BYTES = 1024 * 1024
_MAX_COMMAS = 500_000
"""In what cannot be cut into pieces. A member or an element takes a comma and some 200 bytes of memory."""

_Body = bytes | bytearray


class JsonDecoder:
    """Decodes bodies under one set of limits."""

    def __init__(self, limits: IngestLimits) -> None:
        self._limits = limits
        self._future = int(limits.max_future_seconds * 1e9)

    def decode(self, body: _Body, *, now: int) -> Decoded:
        """The whole body at once; see `pieces`."""
        decoded = list(self.pieces(body, now=now))
        if len(decoded) == 1:
            return decoded[0]
        return Decoded(
            Batch.join([d.batch for d in decoded]) if decoded else Batch.of(()),
            [r for d in decoded for r in d.rejections],
            sum(d.truncated for d in decoded),
        )

    def pieces(self, body: _Body, *, now: int) -> Iterator[Decoded]:
        """The records of `body` in order, each step a bounded amount of work.

        now: received_at, ns; what a record without a timestamp gets.
        Raises BadRequest for an empty body and for an array that is not JSON, TooLarge past `max_records`.
        """
        if body[:3] == _BOM:
            body = body[3:]
        if body[:1] != b"{":
            body = body.strip(_SPACE)
            if not body:
                raise BadRequest("the body is empty: send a JSON object, an array of objects, or one object a line")
        is_array = body[:1] == b"["
        seen = 0
        for piece in _array_pieces(body) if is_array else _line_pieces(body):
            decoded = self._piece(piece, is_array, seen, now)
            seen += len(decoded.batch) + len(decoded.rejections)
            if seen > self._limits.max_records:
                raise TooLarge(
                    f"the request has more than {self._limits.max_records} records (max_records)",
                    field="records",
                    limit=self._limits.max_records,
                )
            yield decoded

    def _piece(self, piece: "_Body | Sequence[msgspec.Raw]", is_array: bool, first_index: int, now: int) -> Decoded:
        latest = now + self._future
        if isinstance(piece, (bytes, bytearray)):
            if _is_overfull(piece):
                reason = f"the record has more than {self._limits.max_metadata_keys} metadata keys (max_metadata_keys)"
                return Decoded(Batch.of(()), [Rejection(first_index, "too_many_metadata_keys", reason)])
            try:
                batch = typed.decode(piece, is_array=is_array, now=now, latest=latest, limits=self._limits)
                return Decoded(batch)
            except typed.Unusual:
                pass
            values: Sequence[bytes | msgspec.Raw] = _elements(piece) if is_array else _lines(piece)
        else:
            values = piece
        records: list[Record] = []
        batches: list[Batch] = []
        rejections: list[Rejection] = []
        truncated = 0
        for start in range(0, len(values), _GROUP):
            group = values[start : start + _GROUP]
            if len(values) > 1 and (whole := self._group(group, now, latest)) is not None:
                batches.append(Batch.of(records))
                batches.append(whole)
                records = []
                continue
            for index, value in enumerate(group, first_index + start):
                try:
                    accepted = lenient.decode(bytes(value), now=now, latest=latest, limits=self._limits)
                except lenient.Refused as refused:
                    rejections.append(Rejection(index, refused.code, refused.reason))
                else:
                    records.append(accepted.record)
                    truncated += accepted.truncated
        batches.append(Batch.of(records))
        return Decoded(Batch.join(batches), rejections, truncated)

    def _group(self, values: "Sequence[bytes | msgspec.Raw]", now: int, latest: int) -> Batch | None:
        try:
            text = b"\n".join(values)
            batch = typed.decode(text, is_array=False, now=now, latest=latest, limits=self._limits)
        except typed.Unusual:
            return None
        return batch if len(batch) == len(values) else None


def _line_pieces(body: _Body) -> Iterator[_Body]:
    """Cuts NDJSON at line ends, before a line that begins with "{" when there is one: a record may be
    spread over lines."""
    at, end = 0, len(body)
    while end - at > PIECE_BYTES:
        cut = body.rfind(b"\n{", at + 1, at + PIECE_BYTES)
        if cut < 0:
            cut = body.rfind(b"\n", at + 1, at + PIECE_BYTES)
        if cut < 0:
            cut = body.find(b"\n", at + PIECE_BYTES)
        if cut < 0:
            break
        yield body[at:cut]
        at = cut + 1
    yield body[at:] if at else body


def _lines(piece: _Body) -> Sequence[bytes | msgspec.Raw]:
    """The JSON values of a piece; when they cannot be told apart, its lines, whatever they hold."""
    try:
        return _VALUES.decode_lines(piece)
    except (ValueError, RecursionError):
        pass
    values: list[bytes | msgspec.Raw] = []
    for line in (whole.strip(_SPACE) for whole in piece.split(b"\n")):
        if not line:
            continue
        try:
            values.extend(_VALUES.decode_lines(line))
        except (ValueError, RecursionError):
            values.append(bytes(line))
    return values


def _elements(piece: _Body) -> Sequence[msgspec.Raw]:
    try:
        return _ELEMENTS.decode(piece)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not a valid JSON array: {error}"[:300]) from None


def _array_pieces(body: _Body) -> "Iterator[_Body | Sequence[msgspec.Raw]]":
    """Cuts an array between elements.

    A place that looks like one ("}" and ",") may lie in a string or in a nested array, so what is cut off
    must itself be an array of values; JSON being read from left to right, it is then what reading the whole
    would have found. When no place fits, the rest is read in one go.
    """
    if len(body) <= PIECE_BYTES:
        yield body
        return
    at = 1  # past the bracket
    while len(body) - at > PIECE_BYTES:
        cut = _cut(body, at)
        if cut is None:
            break
        end, piece = cut
        yield piece
        at = end
    tail = b"[" + body[at:]
    if _is_overfull(tail):
        raise TooLarge("the array has an element that is too large to be read: send one record a line")
    rest = _elements(tail)
    if not rest:
        raise BadRequest("the body is not a valid JSON array: a comma without an element behind it")
    for start in range(0, len(rest), 512):
        yield rest[start : start + 512]


def _cut(body: _Body, at: int) -> tuple[int, _Body] | None:
    """Where the next piece ends (past its comma), and the piece as an array."""
    for pattern in (_BETWEEN_ELEMENTS, _COMMA):
        places = pattern.finditer(body, at + PIECE_BYTES // 2, at + PIECE_BYTES)
        for match in islice(places, _CUT_ATTEMPTS):
            end = match.end()
            piece = b"[" + body[at : end - 1] + b"]"
            try:
                _ELEMENTS.decode(piece)
            except (ValueError, RecursionError):
                continue
            return end, piece
    return None


def _is_overfull(text: _Body) -> bool:
    """Whether reading `text` as one value could take very much more memory than it has bytes."""
    return len(text) > _LARGE_BYTES and text.count(b",") > _MAX_COMMAS
