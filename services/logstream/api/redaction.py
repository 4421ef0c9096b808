"""`POST /api/v1/redaction/dry-run`: what redaction would make of samples, which are neither kept nor logged."""

import asyncio
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from logstream.api.deps import Caller, gate_of
from logstream.api.error_body import errors
from logstream.auth.roles import Action, require
from logstream.errors import InvalidValue
from logstream.record import Batch, Decoded, Level, Record
from logstream.redact import Redactor, redactor_for
from logstream.redact.scrub import Scrubbed
from logstream.settings import IngestLimits, RedactionRule, RedactionSettings

MAX_SAMPLES = 1_000


class Sample(BaseModel):
    """A record as it is stored: nested metadata flattened, all values texts."""

    model_config = ConfigDict(extra="forbid")
    message: str = Field(examples=["ada@example.com paid with 4111 1111 1111 1111"])
    service: str = Field("unknown", min_length=1, examples=["payment"])
    metadata: dict[str, str] = Field({}, max_length=128, examples=[{"user.password": "hunter2"}])


class DryRun(BaseModel):
    """Rules and samples. Without `rules` and `detectors`, those of the stream."""

    model_config = ConfigDict(extra="forbid")
    stream: str | None = Field(None, max_length=100, description="Whose rules; the caller's by default.")
    lines: list[str] = Field([], max_length=MAX_SAMPLES, description="Messages.", examples=[["ada@example.com paid"]])
    records: list[Sample] = Field([], max_length=MAX_SAMPLES)
    rules: list[RedactionRule] | None = Field(None, max_length=50, description="To try in place of the stream's.")
    detectors: list[str] | None = Field(None, max_length=50, description="Besides the rules.", examples=[["card"]])


class FoundValue(BaseModel):
    field: str = Field(description="message, service or metadata.KEY", examples=["message"])
    rule: str = Field(description="Its name.", examples=["card"])
    action: str = Field(description="What became of it.", examples=["mask"])
    start: int = Field(description="In characters, from 0, in the field as it came.", examples=[25])
    end: int = Field(description="Behind its last character.", examples=[44])


class DryRunResult(BaseModel):
    before: Sample
    after: Sample | None = Field(description="null: the record would be rejected.")
    findings: list[FoundValue]


class DryRunAnswer(BaseModel):
    results: list[DryRunResult] = Field(description="Lines first, then records, in the order they came.")
    found: dict[str, int] = Field(description="Findings by rule.", examples=[{"card": 1}])


def _positions(text: str, field: str, scrubbed: Scrubbed) -> Iterator[FoundValue]:
    data = text.encode("utf-8", "surrogatepass")
    at, characters = 0, 0
    for start, end, rule, _ in scrubbed.findings:
        characters += len(data[at:start].decode(errors="replace"))
        length = len(data[start:end].decode(errors="replace"))
        yield FoundValue(field=field, rule=rule.name, action=rule.action, start=characters, end=characters + length)
        characters += length
        at = end


def _result(redactor: Redactor, sample: Sample, counts: dict[str, int]) -> DryRunResult:
    record = Record(0, sample.service, Level.INFO, sample.message, dict(sample.metadata))
    redacted = redactor.redact(Decoded(Batch.of([record])))
    findings = [*_positions(sample.message, "message", redactor.explain(sample.message)[0])]
    findings += _positions(sample.service, "service", redactor.explain(sample.service, service=True)[0])
    for key, value in sample.metadata.items():
        findings += _positions(value, f"metadata.{key}", redactor.explain(value, key=key)[0])
    for rule, count in redacted.found.items():
        counts[rule] = counts.get(rule, 0) + count
    left = next(iter(redacted.decoded.batch), None)
    after = None
    if left is not None:
        after = Sample(message=left.message, service=left.service, metadata=left.metadata)
    return DryRunResult(before=sample, after=after, findings=findings)


def dry_run(settings: RedactionSettings, limits: IngestLimits, stream: str, asked: DryRun) -> DryRunAnswer:
    """Raises InvalidValue, RuleError."""
    if not asked.lines and not asked.records:
        raise InvalidValue("send `lines` or `records` to try the rules on", field="lines")
    if asked.rules is not None or asked.detectors is not None:
        settings = RedactionSettings(
            rules=tuple(asked.rules or ()), detectors=tuple(asked.detectors or ()), hash_key=settings.hash_key
        )
    redactor = redactor_for(settings, stream, limits)
    counts: dict[str, int] = {}
    samples = (*(Sample(message=line) for line in asked.lines), *asked.records)
    results = [_result(redactor, sample, counts) for sample in samples]
    return DryRunAnswer(results=results, found=_sorted(counts))


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def create_router(settings: RedactionSettings, limits: IngestLimits) -> APIRouter:
    """Trying redaction. settings, limits: the installation's."""
    router = APIRouter(prefix="/api/v1", tags=["redaction"])

    @router.post(
        "/redaction/dry-run",
        summary="Try redaction rules on samples",
        responses=errors(400, 401, 403, 404, 408, 413, 503),
    )
    async def redaction_dry_run(request: Request, caller: Caller, asked: DryRun) -> DryRunAnswer:
        """What would be left of lines and records, and which rule found what where. Nothing is kept or logged."""
        name = asked.stream or caller.stream or "default"
        require(caller, Action.TRY_REDACTION, stream=name)
        gate_of(request).stream(name)
        return await asyncio.to_thread(dry_run, settings, limits, name, asked)

    return router
