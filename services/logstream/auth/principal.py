"""A caller that has proved who it is, and what it may do."""

from dataclasses import dataclass, field
from enum import StrEnum

from logstream.errors import Forbidden


class Scope(StrEnum):
    """What an API key may be used for; roles of people map to sets of these (`logstream.auth.roles`)."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Quota:
    """Sustained rates; each allows a burst of two seconds' worth. None: no limit."""

    records_per_second: float | None = None
    bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An API key, a logged-in user, or nobody (`kind="anonymous"`, on a stream that allows anonymous reads).

    id: key id or user id, safe to log. stream: the stream a key belongs to; None for people, who see all.
    session: the digest of a person's login, so that what lives long (a tail) ends with it.
    """

    kind: str
    id: str
    name: str
    scopes: frozenset[Scope]
    stream: str | None = None
    quota: Quota = Quota()
    role: str | None = None
    session: bytes | None = field(default=None, repr=False)

    def require(self, scope: Scope, *, stream: str | None = None) -> None:
        """Raises Forbidden without `scope`, or for another stream than the key's own."""
        if scope not in self.scopes:
            raise Forbidden(f"this {self.kind} lacks the scope '{scope}'", field="scope", limit=str(scope))
        if stream is not None and self.stream is not None and stream != self.stream:
            raise Forbidden(f"this {self.kind} belongs to another stream than '{stream}'", field="stream")
