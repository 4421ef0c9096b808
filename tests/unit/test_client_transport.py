"""What the collector's answers mean to the client."""

import gzip

import pytest

from logstream.client.transport import Verdict, encode_body, judge, retry_after

ACCEPTED = b'{"status":"accepted","accepted":2,"rejected":[]}'
PARTLY = b'{"accepted":1,"rejected":[{"index":1,"code":"c","reason":"too old"}],"rejected_count":7}'
ERROR = b'{"error":{"code":"c","message":"said so"}}'


@pytest.mark.parametrize(
    ("status", "content", "verdict", "problem"),
    [
        (202, ACCEPTED, Verdict.ACCEPTED, ""),
        (202, PARTLY, Verdict.ACCEPTED, "rejected 7 records of a batch, the first because too old"),
        (202, b"<html>", Verdict.MISCONFIGURED, "no LogStream collector"),
        (200, ACCEPTED, Verdict.MISCONFIGURED, "no LogStream collector"),
        (301, b"", Verdict.MISCONFIGURED, "301"),
        (400, PARTLY, Verdict.REFUSED, "too old"),
        (400, ERROR, Verdict.REFUSED, "said so"),
        (401, ERROR, Verdict.MISCONFIGURED, "LOGSTREAM_API_KEY"),
        (403, ERROR, Verdict.MISCONFIGURED, "said so"),
        (404, b"\xff", Verdict.MISCONFIGURED, "LOGSTREAM_INGEST_URL"),
        (408, ERROR, Verdict.LATER, "said so"),
        (413, ERROR, Verdict.TOO_LARGE, "said so"),
        (415, ERROR, Verdict.REFUSED, "said so"),
        (422, ERROR, Verdict.KNOWN, ""),
        (429, ERROR, Verdict.LATER, "429"),
        (500, b"", Verdict.LATER, "500"),
        (502, b"<html>", Verdict.LATER, "502"),
        (503, ERROR, Verdict.LATER, "said so"),
        (503, b'{"error": 5, "rejected": {}}', Verdict.LATER, "503"),
    ],
)
def test_answers(status: int, content: bytes, verdict: Verdict, problem: str) -> None:
    outcome = judge(status, {}, content)
    assert outcome.verdict is verdict
    assert problem in outcome.problem
    assert bool(outcome.problem) == bool(problem)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("2", 2.0), ("0", 0.0), ("-1", 0.0), ("1e9", 300.0), ("nan", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0)],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}) == seconds
    assert retry_after({}) == 0.0


def test_bodies() -> None:
    lines = [b'{"message":"line"}'] * 1000
    body, gzipped = encode_body(lines, compress=True)
    assert gzipped
    assert len(body) * 20 < 1000 * 19
    assert gzip.decompress(body) == b"\n".join(lines)
    assert encode_body(lines, compress=False) == (b"\n".join(lines), False)
    assert encode_body(lines[:1], compress=True) == (lines[0], False)
