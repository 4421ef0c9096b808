"""Where ClickHouse is: shards, their replicas, and which replica is asked now.

One replica of a shard is asked as long as it answers (pages of one search then come from one replica, and replication
lag is not seen). One that fails rests, longer each time, while another is asked; when all rest, the one whose rest ends
first is tried all the same. Health is told when it changes, not with every failure.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.logs import get_logger
from logstream.metrics import STORE_REPLICA_FAILURES, STORE_REPLICA_UP

REST_SECONDS = 1.0
MAX_REST_SECONDS = 30.0

_log = get_logger("store")


@dataclass(frozen=True, slots=True)
class Address:
    """Of one server's HTTP interface. path: of a proxy before it, without a slash at the end."""

    scheme: str
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def addresses(setting: str) -> Sequence[Sequence[Address]]:
    """Replicas by shard, of "http://a1,http://a2;http://b1,http://b2" or the same as JSON (a list, a list of lists).

    Raises InvalidValue; what is told never holds a password.
    """
    shards = [[_address(url) for url in shard] for shard in _split(setting.strip())]
    flat = [address for shard in shards for address in shard]
    if len(set(flat)) != len(flat):
        raise InvalidValue("store url names a server twice", field="store.url")
    if len({address.scheme for address in flat}) != 1:
        raise InvalidValue("store url mixes http and https", field="store.url")
    return shards


def _split(setting: str) -> list[list[str]]:
    if not setting.startswith("["):
        return [[url.strip() for url in shard.split(",")] for shard in setting.split(";")]
    try:
        value = json.loads(setting)
    except ValueError as error:
        raise InvalidValue(f"store url is no JSON list: {error}", field="store.url") from error
    shards = [value] if all(isinstance(url, str) for url in value) else value
    if not shards or not all(
        isinstance(shard, list) and shard and all(isinstance(url, str) for url in shard) for shard in shards
    ):
        raise InvalidValue("store url must be a list of URLs, or a list of such lists", field="store.url")
    return shards


def _address(url: str) -> Address:
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidValue(f"store url cannot be read: {error}", field="store.url") from error
    if parts.username is not None or parts.password is not None:
        raise InvalidValue(
            "store url must not hold a user or password: set LOGSTREAM_STORE_USERNAME and LOGSTREAM_STORE_PASSWORD",
            field="store.url",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidValue(f"store url must be http://HOST:PORT: {url!r}", field="store.url")
    return Address(
        parts.scheme, parts.hostname, port or (8443 if parts.scheme == "https" else 8123), parts.path.rstrip("/")
    )


class Endpoint:
    """One server and its health."""

    def __init__(self, address: Address, clock: Callable[[], float]) -> None:
        self.address = address
        self.name = f"{address.host}:{address.port}"
        self.up = True
        self._clock = clock
        self._failures = 0
        self._rests_until = float("-inf")
        self._refuses: str | None = None
        STORE_REPLICA_UP.labels(self.name).set(1)

    @property
    def rests_until(self) -> float:
        """Monotonic seconds; in the past when it may be asked."""
        return self._rests_until

    @property
    def resting(self) -> bool:
        return self._clock() < self._rests_until

    @property
    def refuses(self) -> bool:
        """Whether it refused the credentials when it was asked last."""
        return self._refuses is not None

    def check(self) -> None:
        """Raises StoreUnavailable while it rests because it refused the credentials: asking again changes nothing,
        and servers lock out who tries too often.
        """
        if self._refuses is not None and self.resting:
            raise StoreUnavailable(self._refuses, retry_after=self._rests_until - self._clock())

    def failed(self, reason: str, *, credentials: bool = False) -> None:
        """It could not be reached, or cannot work now.

        credentials: it refused them; whoever asks within its rest is told `reason`.
        """
        now = self._clock()
        if now >= self._rests_until:
            # Calls under way together fail together: that is one failure.
            self._failures += 1
            rest = min(MAX_REST_SECONDS, REST_SECONDS * 2 ** min(self._failures - 1, 10))
            self._rests_until = now + rest * random.uniform(0.75, 1.0)
        self._refuses = reason if credentials else None
        STORE_REPLICA_FAILURES.labels(self.name).inc()
        if self.up:
            self.up = False
            STORE_REPLICA_UP.labels(self.name).set(0)
            _log.warning("replica_away", replica=self.name, reason=reason)

    def answered(self) -> None:
        """It does what it is asked."""
        if self._failures:
            self._failures = 0
            self._rests_until = float("-inf")
            self._refuses = None
        if not self.up:
            self.up = True
            STORE_REPLICA_UP.labels(self.name).set(1)
            _log.info("replica_back", replica=self.name)


class Shard:
    """The replicas of one shard, of which one is asked."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._asked = 0

    def choose(self) -> Endpoint:
        """The replica to ask now. Raises StoreUnavailable when it refused the credentials a moment ago."""
        if len(self.endpoints) > 1 and self.endpoints[self._asked].resting:
            self._asked = min(
                range(len(self.endpoints)),
                key=lambda i: (
                    self.endpoints[i].rests_until if self.endpoints[i].resting else 0.0,
                    (i - self._asked) % len(self.endpoints),
                ),
            )
        endpoint = self.endpoints[self._asked]
        endpoint.check()
        return endpoint

    def one_after_another(self) -> Iterator[Endpoint]:
        """Replicas to ask until one answers, each once: the chosen one, then those that it leads to as they fail."""
        asked: set[Endpoint] = set()
        while (endpoint := self.choose()) not in asked:
            asked.add(endpoint)
            yield endpoint
