"""Which resources there are, as the watchers have told: to find what depends on what. What is done is always decided
by a fresh read."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from logstream.settings import KafkaSettings, StoreSettings
from logstream.stream import Stream

Place = tuple[str, str]
"""Namespace and name."""
_REMEMBERED = 4096
"""Writes of ours; their events come within seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """stream: its identity once it was reconciled; generation and paused as of the last event."""

    uid: str
    data_plane: str
    key_of: str = ""
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a stream, in log entries. oldest_unsaved_seconds: None while nothing waits."""

    accepted: int = 0
    stored: int = 0
    dead_lettered: int = 0
    lag: int = 0
    oldest_unsaved_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a stream's figures come from, as of its last reconcile."""

    stream: Stream
    kafka: KafkaSettings
    store: StoreSettings
    incarnation: int
    partitions: int


@dataclass(slots=True)
class Known:
    """LogStreams and keys, by namespace and name."""

    streams: dict[Place, Entry] = field(default_factory=dict)
    keys: dict[Place, Entry] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    """By stream id."""
    sources: dict[Place, Source] = field(default_factory=dict)
    identities: dict[Place, Stream] = field(default_factory=dict)
    _written: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def wrote(self, obj: Mapping[str, Any]) -> None:
        """It is in the state in which the API server answered our own write: the event of that is no news."""
        meta = obj["metadata"]
        self._written[meta["uid"], meta["resourceVersion"]] = None
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    def is_own_write(self, meta: Mapping[str, Any]) -> bool:
        """Whether an object was last changed by us, as far as that is remembered."""
        return (meta.get("uid"), meta.get("resourceVersion")) in self._written

    def saw_stream(self, obj: Mapping[str, Any]) -> None:
        meta, spec = obj["metadata"], obj.get("spec") or {}
        ref = (spec.get("dataPlaneRef") or {}).get("name")
        secrets = frozenset(
            str(name)
            for connection in (spec.get("connections") or {}).values()
            if isinstance(connection, dict) and (name := (connection.get("secretRef") or {}).get("name"))
        )
        self.streams[meta["namespace"], meta["name"]] = Entry(meta["uid"], ref or meta["name"], secrets=secrets)

    def saw_key(self, obj: Mapping[str, Any]) -> None:
        meta, spec = obj["metadata"], obj.get("spec") or {}
        of = (spec.get("logStreamRef") or {}).get("name", "")
        self.keys[meta["namespace"], meta["name"]] = Entry(meta["uid"], "", key_of=of)

    def lost_stream(self, place: Place) -> None:
        self.streams.pop(place, None)
        self.sources.pop(place, None)
        stream = self.identities.pop(place, None)
        if stream is not None:
            self.figures.pop(stream.stream_id, None)

    def sharers(self, place: Place) -> Iterator[Place]:
        """LogStreams whose data plane is the one at `place`, but for itself."""
        namespace, name = place
        for other, entry in self.streams.items():
            if other[0] == namespace and entry.data_plane == name and other != place:
                yield other

    def keys_of(self, place: Place) -> Iterator[Place]:
        """Keys of the LogStream at `place`."""
        namespace, name = place
        for other, entry in self.keys.items():
            if other[0] == namespace and entry.key_of == name:
                yield other
