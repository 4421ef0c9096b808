"""The answers of the analysis routes, and what the API's document says about them."""

from typing import Any

from pydantic import BaseModel, Field

from logstream.query.discover import Fields, Kind, name_of
from logstream.query.facets import Facets
from logstream.query.histogram import Bucket, Histogram
from logstream.query.language import nodes
from logstream.query.pattern_report import PatternReport, query_of
from logstream.query.patterns import Pattern
from logstream.query.period import Period
from logstream.query.time import format_time

_TIME = "2026-01-31T12:00:00Z"
_NS_PER_SECOND = 10**9


class _Dated(BaseModel):
    start_time: str = Field(description="The first instant counted, RFC 3339, UTC.", examples=[_TIME])
    end_time: str = Field(description="The last instant counted.", examples=["2026-01-31T13:00:00Z"])


class HistogramBucket(BaseModel):
    timestamp: str = Field(description="Where the bucket begins; the first may begin before start_time.")
    count: int = Field(description="Lines.", examples=[120])
    values: dict[str, int] = Field(description="Lines by value, those of 0 left out.", examples=[{"error": 3}])
    other: int = Field(0, description="Lines with a value that is not in `series`. Left out when 0.")
    missing: int = Field(0, description="Lines without the field. Left out when 0.")


class HistogramAnswer(_Dated):
    step_seconds: float = Field(description="Width of a bucket.", examples=[60])
    by: str = Field(examples=["level"])
    series: list[str] = Field(description="The values counted apart, the most frequent first.", examples=[["info"]])
    approximate: bool = Field(description="Another value may be more frequent than the last of `series`.")
    total: int = Field(description="Lines.")
    buckets: list[HistogramBucket]


class FacetValue(BaseModel):
    value: str = Field(description="Its first 256 characters.", examples=["payment"])
    count: int = Field(examples=[1_250])


class Facet(BaseModel):
    field: str = Field(examples=["service"])
    distinct: int = Field(description="Different values: exact up to 65,536, then within about 1 %.")
    missing: int = Field(description="Lines without the field.")
    approximate: bool = Field(description="Another value may be more frequent than those listed.")
    values: list[FacetValue] = Field(description="The most frequent first.")


class FacetsAnswer(_Dated):
    total: int = Field(description="Lines.")
    facets: list[Facet]


class FoundFieldEntry(BaseModel):
    name: str = Field(description="As queries name it.", examples=["latency_ms"])
    kind: Kind = Field(description="What all values looked at can be read as.")
    count: int = Field(description="Lines looked at that have it.")
    distinct: int = Field(description="Different values in them.")
    examples: list[str] = Field(description="At most three.", examples=[["250", "1900"]])


class FieldsAnswer(_Dated):
    lines: int = Field(description="Lines looked at: the newest of the period.")
    sampled: bool = Field(description="The period has more lines than were looked at.")
    truncated: bool = Field(description="There are more fields than are listed.")
    fields: list[FoundFieldEntry]


class PatternEntry(BaseModel):
    id: str = Field(description="The same for the same template.", examples=["9f2c4e0d1b3a5c77"])
    template: str = Field(description="`<*>` stands for values.", examples=["user <*> logged in from <*>"])
    count: int = Field(description="Lines in the period.")
    before: int = Field(description="Lines in the period before.")
    change: float | None = Field(description="count / before; null when there were none before.")
    new: bool = Field(description="There were none before.")
    share: float = Field(description="count / total.")
    query: str = Field(description="Finds its lines, and perhaps some others.", examples=["user logged from"])
    examples: list[str] = Field(description="Messages, their first 1,024 characters.")


class PatternsAnswer(BaseModel):
    total: int = Field(description="Lines in the period.")
    period: _Dated
    previous: _Dated | None = Field(description="The period before, of the same length; null before 1900.")
    previous_total: int = Field(description="Lines in the period before.")
    found: int = Field(description="Patterns there are, of which `limit` are listed.")
    rest: int = Field(description="Lines in no pattern, because too many messages are like no other.")
    patterns: list[PatternEntry]


def _name(field: nodes.Field) -> str:
    return name_of(field.key) if field.column == "metadata" else field.column


def histogram(period: Period, by: str, found: Histogram) -> dict[str, Any]:
    return {
        "step_seconds": found.step / _NS_PER_SECOND if found.step % _NS_PER_SECOND else found.step // _NS_PER_SECOND,
        "by": by,
        **period.json(),
        "series": found.series,
        "approximate": found.approximate,
        "total": sum(bucket.count for bucket in found.buckets),
        "buckets": list(map(_bucket, found.buckets)),
    }


def _bucket(bucket: Bucket) -> dict[str, Any]:
    answer = {"timestamp": format_time(bucket.start), "count": bucket.count, "values": bucket.values}
    return answer | {name: count for name, count in (("other", bucket.other), ("missing", bucket.missing)) if count}


def facets(period: Period, found: Facets) -> dict[str, Any]:
    return {
        **period.json(),
        "total": found.total,
        "facets": [
            {
                "field": _name(field),
                "distinct": own.distinct,
                "missing": own.missing,
                "approximate": own.approximate,
                "values": [{"value": value, "count": count} for value, count in own.values],
            }
            for field, own in found.fields
        ],
    }


def fields(period: Period, found: Fields) -> dict[str, Any]:
    return {
        **period.json(),
        "lines": found.lines,
        "sampled": found.sampled,
        "truncated": found.truncated,
        "fields": [
            {"name": f.name, "kind": f.kind, "count": f.count, "distinct": f.distinct, "examples": f.examples}
            for f in found.fields
        ],
    }


def patterns(limit: int, period: Period, found: PatternReport) -> dict[str, Any]:
    before = period.before()
    return {
        "total": found.total,
        "period": period.json(),
        "previous": before.json() if before.start <= before.end else None,
        "previous_total": found.previous,
        "found": len(found.patterns),
        "rest": found.rest,
        "patterns": [_pattern(pattern, found.total) for pattern in found.patterns[:limit]],
    }


def _pattern(pattern: Pattern, total: int) -> dict[str, Any]:
    return {
        "id": pattern.template.id,
        "template": pattern.template.text,
        "count": pattern.count,
        "before": pattern.before,
        "change": round(pattern.count / pattern.before, 4) if pattern.before else None,
        "new": not pattern.before,
        "share": round(pattern.count / total, 6) if total else 0.0,
        "query": query_of(pattern.template),
        "examples": pattern.examples,
    }
