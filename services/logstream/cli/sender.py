"""Requests to the collector: a body and its Idempotency-Key, repeated under that key until there is an answer."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from logstream.cli.client import open_http, sentence, unreachable
from logstream.cli.failure import Failure

if TYPE_CHECKING:
    import httpx

    from logstream.cli.config import Target

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
_EXAMPLES = 3
"""Rejected records shown per reason."""


@dataclass(slots=True)
class Totals:
    """What became of the records sent so far. `reasons`: how often each; `examples`: (line, reason), a few."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    blank: int = 0
    bytes: int = 0
    retries: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """For --output json."""
        return {
            "accepted": self.accepted, "duplicates": self.duplicates, "rejected": self.rejected,
            "blank": self.blank, "bytes": self.bytes, "retries": self.retries, "reasons": dict(self.reasons),
        }  # fmt: skip


class Sender:
    """Sends one request at a time; `totals` is kept up to date. Use as a context manager.

    patience: seconds to go on trying while the collector is away or refuses for now; None: for ever.
    """

    def __init__(
        self,
        target: "Target",
        *,
        patience: float | None,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.totals = Totals()
        self._url = target.ingest_url
        self._patience = patience
        self._say = say
        self._sleep = sleep
        self._http = open_http(target.ingest_url, timeout=60.0)
        credential = target.credential()
        self._headers = {"Content-Type": "application/x-ndjson"}
        if credential:
            self._headers["Authorization"] = f"Bearer {credential}"

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, records: list[bytes], key: str, *, where: Callable[[int], str]) -> None:
        """Post `records` under the Idempotency-Key `key`. `where` names a record by its index for a person.

        Raises Failure when the collector refuses for good, or for longer than `patience`.
        """
        response = self._answer(b"\n".join(records), key)
        if response.status_code == 422:
            # Known key, other body: this range was accepted before, when other options were given.
            self.totals.duplicates += len(records)
            return
        self._count(response, where)

    def _answer(self, body: bytes, key: str) -> "httpx.Response":
        """The first answer that a repeat would not change."""
        import httpx

        started = time.monotonic()
        pause = FIRST_PAUSE
        told = False
        while True:
            wait = 0.0
            try:
                response = self._http.post("/ingest", content=body, headers={**self._headers, "Idempotency-Key": key})
            except httpx.TransportError as error:
                problem = unreachable("collector", self._url, error)
            else:
                self.totals.bytes += len(body)
                if response.status_code not in {408, 429} and response.status_code < 500:
                    if told:
                        self._say("the collector accepts again")
                    return response
                problem = sentence(response, "collector")
                wait = _retry_after(response.headers)
            if self._patience is not None and time.monotonic() - started > self._patience:
                raise Failure(problem)
            if not told:
                self._say(f"{problem.partition('; try again')[0]}; trying again")
                told = True
            self.totals.retries += 1
            self._sleep(max(wait, pause * random.uniform(0.5, 1.0)))
            pause = min(LONGEST_PAUSE, pause * 2)

    def _count(self, response: "httpx.Response", where: Callable[[int], str]) -> None:
        """202, and 400 with a list: what was accepted, and why the rest was not."""
        try:
            answer: dict[str, Any] = response.json()
            rejections, accepted = answer["rejected"], int(answer["accepted"])
            rejected = int(answer.get("rejected_count", len(rejections)))
        except (ValueError, KeyError, TypeError) as error:
            if not response.is_success:
                raise Failure(sentence(response, "collector")) from None
            raise Failure(f"{self._url} did not answer like a LogStream collector; check --ingest-url") from error
        if "Idempotent-Replay" in response.headers:
            self.totals.duplicates += accepted
        else:
            self.totals.accepted += accepted
        self.totals.rejected += rejected
        for rejection in rejections:
            reason, code = str(rejection["reason"]), str(rejection["code"])
            self.totals.reasons[code] += 1
            if self.totals.reasons[code] <= _EXAMPLES:
                self.totals.examples.append((where(int(rejection["index"])), reason))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds the server asks for, at most five minutes; 0 when it does not say."""
    try:
        return min(300.0, max(0.0, float(headers.get("Retry-After", "0"))))
    except ValueError:
        return 0.0
