"""What each process is told: one frozen class a process, composed of the classes that each subject has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from logstream.errors import InvalidValue
from logstream.settings import (
    ApiSettings,
    AuthSettings,
    BusSettings,
    CollectorSettings,
    KafkaSettings,
    LettersSettings,
    LogSettings,
    ProcessorSettings,
    RedactionSettings,
    RunSettings,
    StoreSettings,
    StreamEntry,
    TlsSettings,
)
from logstream.stream import Stream, make_stream

PROCESSOR_HEALTH_PORT = 8082


class ProcessSettings(BaseModel):
    """What every process has. The name of a field is that of its section in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str]

    run: RunSettings
    log: LogSettings
    bus: BusSettings
    kafka: KafkaSettings

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := wrong_together({name: getattr(self, name) for name in type(self).model_fields}):
            raise ValueError("; ".join(problems))
        return self

    def streams(self) -> tuple[StreamEntry, ...]:
        """Those that the settings name: `default` when they name none."""
        return self.run.streams or (StreamEntry(name="default"),)

    @property
    def idempotency_seconds(self) -> float:
        """How long the log that is used remembers an Idempotency-Key."""
        return (self.kafka if self.run.bus == "kafka" else self.bus).idempotency_window_seconds


class CollectorProcess(ProcessSettings):
    """`logstream collector`."""

    name = "collector"

    collector: CollectorSettings
    auth: AuthSettings
    tls: TlsSettings


class ProcessorProcess(ProcessSettings):
    """`logstream processor`. auth: None when nothing names an accounts database; then `run.streams` are its streams."""

    name = "processor"

    processor: ProcessorSettings
    store: StoreSettings
    auth: AuthSettings | None = None


class ApiProcess(ProcessSettings):
    """`logstream api`."""

    name = "api"

    api: ApiSettings
    letters: LettersSettings
    store: StoreSettings
    auth: AuthSettings
    tls: TlsSettings


PROCESSES: dict[str, type[ProcessSettings]] = {
    kind.name: kind for kind in (CollectorProcess, ProcessorProcess, ApiProcess)
}


def make_named(entry: StreamEntry) -> Stream:
    """The stream that `entry` names. Raises InvalidValue where the name cannot be one."""
    return make_stream(entry.name, namespace=entry.namespace, generation=entry.generation)


def wrong_together(parts: Mapping[str, object]) -> list[str]:
    """What is wrong between fields, each with its names. parts: by field; those that are wrong by themselves are
    left out or None."""
    problems: list[str] = []
    if isinstance(run := parts.get("run"), RunSettings):
        problems += _of_run(run)
    if isinstance(auth := parts.get("auth"), AuthSettings):
        problems += _of_accounts(auth)
    if isinstance(tls := parts.get("tls"), TlsSettings):
        problems += _of_tls(tls)
    if isinstance(store := parts.get("store"), StoreSettings):
        problems += _of_store(store)
    kafka, collector = parts.get("kafka"), parts.get("collector")
    for part in (collector, parts.get("api")):
        if isinstance(part, CollectorSettings | ApiSettings):
            problems += _of_redaction(part.redaction)
    if isinstance(kafka, KafkaSettings) and isinstance(run, RunSettings) and run.bus == "kafka":
        problems += _missing_files("kafka", kafka, "ca_file", "cert_file", "key_file")
        if isinstance(collector, CollectorSettings) and (
            kafka.delivery_timeout_seconds >= collector.publish_timeout_seconds
        ):
            problems.append(
                "kafka.delivery_timeout_seconds must be less than collector.publish_timeout_seconds "
                f"({collector.publish_timeout_seconds:g})"
            )
    return problems


def _missing_files(section: str, settings: BaseModel, *fields: str) -> Iterator[str]:
    for field in fields:
        path: Path | None = getattr(settings, field)
        if path is not None and not path.is_file():
            yield f"{section}.{field}: there is no file {path}"


def _of_run(settings: RunSettings) -> Iterator[str]:
    for entry in settings.streams:
        try:
            make_named(entry)
        except InvalidValue as error:
            yield f"run.streams: {error.message}"
    if bool(settings.admin_email) != bool(settings.admin_password.get_secret_value()):
        yield "run.admin_email and run.admin_password go together"


def _of_accounts(settings: AuthSettings) -> Iterator[str]:
    # Without the URL in the text: it may hold a password.
    try:
        kind = make_url(settings.url).get_backend_name()
    except ArgumentError:
        yield "auth.url is no address like postgresql://user@host/database"
        return
    if kind not in ("sqlite", "postgresql", "postgres"):
        yield f"auth.url must begin with sqlite+aiosqlite:// or postgresql://, not {kind}://"


def _of_store(settings: StoreSettings) -> Iterator[str]:
    # Imported here: a collector has no store.
    from logstream.storage.cluster import Cluster
    from logstream.storage.connection import check_files
    from logstream.storage.endpoints import addresses

    try:
        shards = addresses(settings.url)
        check_files(settings)
        if settings.cluster:
            Cluster(settings.cluster)
        elif sum(map(len, shards)) > 1:
            # Each would have rows of its own: what one has taken the next one stores again.
            yield "store.cluster: store url names several servers, so LOGSTREAM_STORE_CLUSTER must name their cluster"
    except InvalidValue as error:
        yield f"{error.field or 'store'}: {error.message}"


def _of_redaction(settings: RedactionSettings) -> Iterator[str]:
    # Imported here: a processor redacts nothing.
    from logstream.redact import RuleError
    from logstream.redact.rule import rules_for

    try:
        rules_for(settings, "default")
    except RuleError as error:
        yield f"redaction.{error.field}: {error.message}"


def _of_tls(settings: TlsSettings) -> Iterator[str]:
    if (settings.cert_file is None) != (settings.key_file is None):
        yield "tls.cert_file and tls.key_file go together"
    if settings.client_ca_file is not None and settings.cert_file is None:
        yield "tls.client_ca_file needs tls.cert_file and tls.key_file"
    yield from _missing_files("tls", settings, "cert_file", "key_file", "client_ca_file")
