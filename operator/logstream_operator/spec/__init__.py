"""The two resources in Python; the CRDs are made from these models (`python -m logstream_operator.spec.crd`)."""

from logstream_operator.spec.apikey import LogStreamAPIKey, LogStreamAPIKeySpec, Rotation
from logstream_operator.spec.duration import format_duration, parse_duration
from logstream_operator.spec.logstream import LogStream, LogStreamSpec
from logstream_operator.spec.metadata import API_VERSION, GROUP, VERSION, Metadata
from logstream_operator.spec.names import child_name
from logstream_operator.spec.part import InvalidSpec

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "InvalidSpec",
    "LogStream",
    "LogStreamAPIKey",
    "LogStreamAPIKeySpec",
    "LogStreamSpec",
    "Metadata",
    "Rotation",
    "child_name",
    "format_duration",
    "parse_duration",
]
