"""Where the lines of one minute are put, and what those who write them need to know."""

from collections.abc import Mapping, Sequence
from random import Random

from logstream.client.encode import encode
from logstream.demo.fleet import Place, Pod
from logstream.demo.shop import Region, user_id

MILLISECOND = 1_000_000
Line = tuple[int, bytes]
"""A timestamp in ns and a record as a line of JSON."""


class Minute:
    """One minute of the shop. start: ns. Lines may lie behind its end: a request that began in it takes its time."""

    def __init__(self, start: int, rng: Random, pods: Mapping[Place, Sequence[Pod]]) -> None:
        self.start = start
        self.rng = rng
        self.pods = pods
        self.lines: list[Line] = []

    def moment(self) -> int:
        """Any time within it, in ns."""
        return self.start + int(self.rng.random() * 60e9)

    def write(
        self, at: int, service: str, region: Region, level: str, message: str, /, *,
        given: Mapping[str, str] | None = None, trace_id: str = "", span_id: str = "", replica: int | None = None,
        **metadata: str,
    ) -> None:  # fmt: skip
        """A line of one of the service's pods: the one with this number, or any. given: more metadata."""
        pods = self.pods[service, region.name]
        number = int(self.rng.random() * len(pods)) if replica is None else replica % len(pods)
        line = encode(
            timestamp=at, service=service, level=level, message=message,
            metadata={**pods[number], **(given or {}), **metadata}, trace_id=trace_id, span_id=span_id,
        )  # fmt: skip
        self.lines.append((at, line))


class Request:
    """One request through the shop: what it writes has one trace_id, and a span_id for each service."""

    def __init__(self, minute: Minute, region: Region, at: int, user: str | None = None) -> None:
        rng = minute.rng
        self.minute = minute
        self.rng = rng
        self.region = region
        self.at = at
        number = rng.getrandbits(128)
        self.trace_id = f"{number:032x}"
        self._number = number
        self.user = user or user_id(rng)
        # One session a user in every half hour.
        session = (int(self.user[1:]) * 2_654_435_761 + at // (1_800 * 10**9) * 40_503_001) & 0xFFFFFFFFFF
        self.who = {"user_id": self.user, "session_id": f"s{session:010x}"}
        self._spans: dict[str, str] = {}

    @property
    def client(self) -> str:
        """The user's address, of those set apart for tests (RFC 2544)."""
        number = int(self.user[1:]) * 7_919
        return f"198.{18 + number % 2}.{number // 2 % 254}.{number // 508 % 254 + 1}"

    def write(self, after: float, service: str, level: str, message: str, **metadata: str) -> None:
        """A line `after` milliseconds from the request's beginning."""
        span = self._spans.get(service)
        if span is None:
            span = self._spans[service] = f"{self.rng.getrandbits(64):016x}"
        self.minute.write(
            self.at + int(after * MILLISECOND), service, self.region, level, message, given={**self.who, **metadata},
            trace_id=self.trace_id, span_id=span, replica=self._number,
        )  # fmt: skip

    def took(self, median: float, spread: float = 0.45) -> float:
        """A latency in ms, log-normal: most near the median, a few many times that."""
        return median * self.rng.lognormvariate(0.0, spread)

    def answer(self, took: float, method: str, route: str, path: str, status: int = 200, **metadata: str) -> None:
        """The gateway's line, at the end of the request."""
        level = "error" if status >= 500 else "warn" if status in (401, 402, 429) else "info"
        self.write(
            took, "gateway", level, f"{method} {path} {status} in {took:.0f} ms",
            method=method, route=route, status=str(status), latency_ms=f"{took:.1f}", client_ip=self.client, **metadata,
        )  # fmt: skip
