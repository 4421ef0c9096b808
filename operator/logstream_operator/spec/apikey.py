"""`LogStreamAPIKey`: an API key of a stream, kept in a Secret."""

from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from logstream.auth.principal import Scope
from logstream_operator.spec.duration import Duration
from logstream_operator.spec.logstream import StreamQuota
from logstream_operator.spec.metadata import Resource
from logstream_operator.spec.names import NAME_PATTERN
from logstream_operator.spec.part import Part, Rules, rule

ScopeName = Literal["ingest", "read", "admin"]
MIN_EVERY = timedelta(minutes=1)
MAX_EVERY = timedelta(hours=87_600)
_SECRET_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"  # noqa: S105 — a pattern of names


def _once(scopes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(scopes)) < len(scopes):
        raise ValueError("a scope comes twice: take one away")
    return scopes


class LogStreamRef(Part):
    """A LogStream in this namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=NAME_PATTERN)] = Field(
        description="Its name. It cannot change."
    )


class Rotation(Part):
    """New keys at times of their own."""

    rules: ClassVar[Rules] = [
        rule(
            "duration(self.every) >= duration('1m') && duration(self.every) <= duration('87600h')",
            "rotation.every must be 1m to 87600h",
            field=".every",
        ),
        rule(
            "duration(self.overlap) < duration(self.every)",
            "rotation.overlap must be less than rotation.every: or keys would pile up",
            field=".overlap",
        ),
    ]

    every: Duration = Field(description="How old a key becomes before the next one is made, as 720h.")
    overlap: Duration = Field(
        timedelta(hours=1),
        description="How long the old key works beside the new one, as 24h: until every program has read the Secret "
        "again.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not MIN_EVERY <= self.every <= MAX_EVERY:
            raise ValueError("rotation.every must be 1m to 87600h")
        if self.overlap >= self.every:
            raise ValueError("rotation.overlap must be less than rotation.every: or keys would pile up")
        return self


class LogStreamAPIKeySpec(Part):
    """What a key is to be."""

    rules: ClassVar[Rules] = [
        rule(
            "self.logStreamRef.name == oldSelf.logStreamRef.name",
            "logStreamRef cannot change: make a new LogStreamAPIKey instead",
            field=".logStreamRef",
        ),
        rule(
            "has(self.secretName) == has(oldSelf.secretName)"
            " && (!has(self.secretName) || self.secretName == oldSelf.secretName)",
            "secretName cannot change: make a new LogStreamAPIKey instead",
            field=".secretName",
        ),
        rule(
            "!oldSelf.revoked || self.revoked",
            "revoked cannot be taken back: make a new LogStreamAPIKey instead",
            field=".revoked",
        ),
    ]

    log_stream_ref: LogStreamRef = Field(description="The LogStream that the key belongs to. It cannot change.")
    scopes: Annotated[tuple[ScopeName, ...], Field(min_length=1, max_length=3), AfterValidator(_once)] = Field(
        ("ingest",),
        description="What the key may do. ingest: send; read: search and tail; admin: change the stream's retention, "
        "its dead letters and its keys.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    quota: StreamQuota = Field(StreamQuota(), description="What the key may send, beside the stream's quota.")
    expires_at: AwareDatetime | None = Field(
        None, description="When the key stops working, as 2030-01-31T00:00:00Z. Left out: never."
    )
    rotation: Rotation | None = Field(None, description="Left out: the key stays the same.")
    revoked: bool = Field(False, description="The key stops working within seconds, without overlap, and for ever.")
    secret_name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_SECRET_NAME)] | None = Field(
        None,
        description="Secret that is written, with LOGSTREAM_API_KEY, LOGSTREAM_INGEST_URL and LOGSTREAM_API_URL. Left "
        "out: named like this resource. A Secret that is somebody else's is never touched. It cannot change.",
    )


class LogStreamAPIKey(Resource):
    """A key."""

    spec: LogStreamAPIKeySpec

    @property
    def secret_name(self) -> str:
        return self.spec.secret_name or self.metadata.name

    @property
    def scopes(self) -> frozenset[Scope]:
        return frozenset(Scope(name) for name in self.spec.scopes)
