"""Answers of the collector as bytes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from logstream.record import Rejection
from logstream.web import Header, json_bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    content_type: bytes = b"application/json"


_REPLAY: tuple[Header, ...] = ((b"idempotent-replay", b"true"),)
_WHOLE = [Answer(202, b'{"status":"accepted","accepted":%d,"rejected":[]}' % n) for n in range(2001)]


def accepted(rows: int, rejected: int, listed: Sequence[Rejection], *, replay: bool = False) -> Answer:
    """202: `rows` records are durable. `listed` are the first of the `rejected` ones."""
    if not rejected and not replay and rows < len(_WHOLE):
        return _WHOLE[rows]
    content: dict[str, object] = {"status": "accepted", "accepted": rows, **_rejections(rejected, listed)}
    return Answer(202, json_bytes(content), _REPLAY if replay else ())


def refused(rejected: int, listed: Sequence[Rejection]) -> Answer:
    """400: not one record could be accepted."""
    first = listed[0]
    content: dict[str, object] = {
        "error": {"code": first.code, "message": f"no record was accepted; record {first.index}: {first.reason}"},
        "accepted": 0,
        **_rejections(rejected, listed),
    }
    return Answer(400, json_bytes(content))


def _rejections(rejected: int, listed: Sequence[Rejection]) -> dict[str, object]:
    content: dict[str, object] = {"rejected": [asdict(rejection) for rejection in listed]}
    if rejected:
        content["rejected_count"] = rejected
    return content
