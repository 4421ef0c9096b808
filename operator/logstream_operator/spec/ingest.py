"""Limits of one request and redaction: the settings of the services, with Kubernetes' names and with upper bounds."""

import copy
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Le
from pydantic import Field, SecretStr, StringConstraints, create_model, model_validator

from logstream import settings
from logstream.redact import RuleError
from logstream.redact.rule import rules_for
from logstream_operator.spec.part import Part, Rules, rule
from logstream_operator.spec.pods import Name

_GIB = 1024**3
# What the services leave open: whoever writes a resource may be another than who pays for the nodes.
_AT_MOST: dict[str, int] = {
    "max_body_bytes": _GIB,
    "max_decompressed_bytes": 4 * _GIB,
    "max_records": 10_000_000,
    "max_message_bytes": 64 * 1024**2,
    "max_metadata_keys": 10_000,
    "max_metadata_value_bytes": 64 * 1024**2,
    "max_metadata_depth": 256,
    "max_name_bytes": 65_536,
    "max_future_seconds": 31_536_000,
    "max_pending_bytes": 16 * _GIB,
    "body_timeout_seconds": 3600,
    "header_timeout_seconds": 3600,
}


def _fields() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, info in settings.IngestLimits.model_fields.items():
        field = copy.copy(info)
        field.metadata = [*info.metadata, Le(_AT_MOST[name])]
        found[name] = (info.annotation, field)
    return found


class _Ingest(Part):
    """What one request may hold."""

    rules: ClassVar[Rules] = [
        rule(
            "self.maxBodyBytes <= self.maxPendingBytes",
            "ingest.maxBodyBytes must not be more than maxPendingBytes: such a request would never be taken",
            field=".maxBodyBytes",
        )
    ]

    def values(self) -> dict[str, Any]:
        """As the section `ingest` of a settings file."""
        return self.model_dump()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values()["max_body_bytes"] > self.values()["max_pending_bytes"]:
            raise ValueError("maxBodyBytes must not be more than maxPendingBytes: such a request would never be taken")
        return self


Ingest: type[_Ingest] = create_model("Ingest", __base__=_Ingest, __doc__=_Ingest.__doc__, **_fields())
"""`logstream.settings.IngestLimits` in camelCase: the same names, defaults and lower bounds."""


class SecretKey(Part):
    """One value in a Secret of the same namespace."""

    name: Name = Field(description="Of the Secret.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = Field(
        description="Which of its values."
    )


class RedactionRule(Part):
    """What is looked for, where, and what becomes of it."""

    rules: ClassVar[Rules] = [
        rule(
            "has(self.detector) != has(self.pattern)",
            "a redaction rule needs a detector or a pattern, and not both",
        )
    ]

    name: Annotated[str, StringConstraints(max_length=32, pattern=r"^([a-z][a-z0-9_-]{0,31})?$")] = Field(
        "", description="In marks and metrics; the detector's by default."
    )
    detector: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="A built-in detector, such as email or card."
    )
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = Field(
        None, description="RE2; where it has groups, only what they match is replaced."
    )
    fields_: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...], Field(min_length=1, max_length=50)
    ] = Field(
        ("message", "metadata.*"),
        alias="fields",
        description="message, service, metadata.KEY; * and ? stand for any characters of a key.",
    )
    action: Literal["mask", "keep_last", "hash", "drop", "reject"] = Field(
        "mask",
        description="mask: [name]; keep_last: the last four characters stay; hash: equal values stay equal; drop: the "
        "whole field goes; reject: the record is not accepted.",
    )
    streams: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=50)], ...], Field(min_length=1, max_length=50)
    ] = Field(("*",), description="Names of LogStreams that share these pods; * and ? as in fields.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.detector is None) == (self.pattern is None):
            raise ValueError("a redaction rule needs a detector or a pattern, and not both")
        return self


class Redaction(Part):
    """What is taken out of records before they reach Kafka."""

    rules: ClassVar[Rules] = [
        rule(
            "has(self.hashKeyRef) || !has(self.rules) || self.rules.all(r, r.action != 'hash')",
            "the action hash needs redaction.hashKeyRef: a Secret with 16 characters or more",
            field=".hashKeyRef",
        )
    ]

    detectors: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...], Field(max_length=50)
    ] = Field((), description="Built-in detectors that mask in messages and metadata; all: each of them.")
    rules_: Annotated[tuple[RedactionRule, ...], Field(max_length=50)] = Field(
        (), alias="rules", description="They come before the detectors."
    )
    hash_key_ref: SecretKey | None = Field(
        None,
        description="Key of the action hash, in a Secret: 16 characters or more. While it stays the same, equal "
        "values become equal marks.",
    )

    def values(self) -> dict[str, Any]:
        """As the section `redaction` of a settings file, without the key."""
        return {
            "detectors": list(self.detectors),
            "rules": [
                {
                    **one.model_dump(exclude_none=True, exclude={"fields_"}),
                    "fields": list(one.fields_),
                    "streams": list(one.streams),
                }
                for one in self.rules_
            ],
        }

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hash_key_ref is None and any(one.action == "hash" for one in self.rules_):
            raise ValueError("the action hash needs hashKeyRef, a Secret with 16 characters or more")
        # As the collectors will do: a pattern that they cannot use would keep them from starting.
        given = settings.RedactionSettings(**self.values(), hash_key=SecretStr("-" * 16))
        try:
            rules_for(given, "default")
        except RuleError as error:
            raise ValueError(f"{error.field}: {error.message}") from None
        return self
