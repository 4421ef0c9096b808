"""One request to the collector and what its answer means; no retries here."""

# What the first request would import otherwise: a child forked amid an import could never import the same again.
import encodings.idna  # noqa: F401
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import urlsplit

import httpx
import msgspec

_COMPRESS_FROM = 1024
_LONGEST_WAIT = 300.0


class Verdict(Enum):
    """What to do with the batch."""

    ACCEPTED = auto()
    REFUSED = auto()  # never taken
    KNOWN = auto()  # stored by an earlier attempt, whose answer was lost
    TOO_LARGE = auto()
    LATER = auto()
    MISCONFIGURED = auto()  # nothing is accepted until a person changes something


@dataclass(frozen=True, slots=True)
class Outcome:
    """wait: seconds the collector asks for. problem: a sentence, empty when all is well. kind: of the problem."""

    verdict: Verdict
    rejected: int = 0
    wait: float = 0.0
    problem: str = ""
    kind: str = ""


class _Rejection(msgspec.Struct):
    code: str = ""
    reason: str = ""


class _Error(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    accepted: int | None = None
    rejected: list[_Rejection] = []
    rejected_count: int | None = None
    error: _Error | None = None


_answers = msgspec.json.Decoder(_Answer)


def address(url: str) -> str:
    """`url` without a slash at its end. Raises ValueError when it is no address of a collector."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must be like http://127.0.0.1:8080, not {url!r}")
    return url.rstrip("/")


class Transport:
    """Posts batches. One thread at a time."""

    def __init__(self, url: str, api_key: str | None, *, timeout: float, user_agent: str) -> None:
        self._url = url
        self._timeout = timeout
        host = urlsplit(url).hostname or ""
        headers = {"Content-Type": "application/x-ndjson", "User-Agent": user_agent, "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # Proxies of the environment are not asked for an address on this machine.
        local = host in {"localhost", "::1"} or host.startswith("127.")
        self._http = httpx.Client(headers=headers, timeout=timeout, trust_env=not local)

    def close(self) -> None:
        self._http.close()

    def post(self, body: bytes, key: str, *, gzipped: bool, timeout: float | None = None) -> Outcome:
        """Send one body. timeout: seconds for each step, when less than usual. Raises nothing but by accident."""
        headers = {"Idempotency-Key": key, **({"Content-Encoding": "gzip"} if gzipped else {})}
        limit = self._timeout if timeout is None else max(0.05, min(timeout, self._timeout))
        try:
            response = self._http.post(f"{self._url}/ingest", content=body, headers=headers, timeout=limit)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
            return Outcome(
                Verdict.LATER, problem=f"cannot reach the collector at {self._url} ({reason})", kind="unreachable"
            )
        return judge(response.status_code, response.headers, response.content)


def encode_body(lines: Sequence[bytes], *, compress: bool) -> tuple[bytes, bool]:
    """The body of a request and whether it is gzip."""
    body = b"\n".join(lines)
    if compress and len(body) >= _COMPRESS_FROM:
        # Level 1: a third of the time of level 6, for a tenth more bytes.
        return gzip.compress(body, compresslevel=1, mtime=0), True
    return body, False


def judge(status: int, headers: Mapping[str, str], content: bytes) -> Outcome:
    """What an answer means."""
    try:
        answer = _answers.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer = _Answer()
    said = answer.error.message if answer.error is not None else ""
    rejected = answer.rejected_count if answer.rejected_count is not None else len(answer.rejected)
    reason = answer.rejected[0].reason if answer.rejected else ""
    said = said or "without a reason"
    kind = str(status)
    if status == 202 and answer.accepted is not None:
        problem = (
            f"the collector rejected {rejected} records of a batch, the first because {reason}" if rejected else ""
        )
        return Outcome(Verdict.ACCEPTED, rejected=rejected, problem=problem, kind="rejected")
    if status in (400, 415):
        problem = f"the collector refused a batch with {status}: {reason or said}"
        return Outcome(Verdict.REFUSED, problem=problem, kind="rejected")
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, problem=f"the collector refused a record as too large: {said}", kind=kind)
    if status == 422:
        return Outcome(Verdict.KNOWN)
    if status in (408, 429) or status >= 500:
        return Outcome(
            Verdict.LATER, wait=retry_after(headers), problem=f"the collector answers {status}: {said}", kind=kind
        )
    if status in (401, 403):
        problem = f"the collector does not take the API key ({status}): {said}; check api_key or LOGSTREAM_API_KEY"
    else:
        problem = f"no LogStream collector answers there ({status}); check url or LOGSTREAM_INGEST_URL"
    return Outcome(Verdict.MISCONFIGURED, wait=retry_after(headers), problem=problem, kind=kind)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds the collector asks for, at most five minutes; 0 when it does not say."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                seconds = float(value)
            except ValueError:
                return 0.0
            return min(_LONGEST_WAIT, seconds) if seconds > 0 else 0.0
    return 0.0
