"""What the operator is told: environment variables `LOGSTREAM_OPERATOR_…`; with `_FILE` behind it, a variable names a
file that holds the value, as Secrets are mounted. Checked at start."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from logstream.errors import StartupError
from logstream.settings import KafkaSettings, LogSettings, StoreSettings

PREFIX = "LOGSTREAM_OPERATOR_"
MAX_FILE_BYTES = 64 * 1024


class _Given(BaseSettings):
    """From what `load` found, and nothing else: the operator's own environment may have LOGSTREAM_KAFKA_… in it."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class OperatorKafka(_Given, KafkaSettings):
    """Kafka, as administrator: where streams are whose resource names no other. Empty bootstrap_servers: nowhere."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}KAFKA_", frozen=True, extra="forbid")

    request_timeout_seconds: float = Field(5.0, gt=0, description="Of one question; one resource waits, not all.")


class OperatorStore(_Given, StoreSettings):
    """ClickHouse, as administrator."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}STORE_", frozen=True, extra="forbid")


class OperatorPostgres(_Given):
    """Postgres, as a role with CREATEDB and CREATEROLE."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}POSTGRES_", frozen=True, extra="forbid")

    url: str = Field(
        "", repr=False, description="postgresql://USER@HOST/DATABASE with libpq's options (sslmode, …); empty: none."
    )
    password: SecretStr = Field(SecretStr(""), description="Goes before one in the URL.")


class OperatorLog(_Given, LogSettings):
    """The operator's own log, on standard error."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}LOG_", frozen=True, extra="forbid")


class OperatorSettings(_Given):
    """The operator itself."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    namespaces: tuple[str, ...] = Field((), description="Watched namespaces (JSON list); empty: the whole cluster.")
    namespace: str = Field("default", description="The operator's own: where its Lease is.")
    identity: str = Field("", description="Of this replica, its pod's name; empty: made from the host's name.")
    image: str = Field("logstream:latest", min_length=1, description="Of collectors, processors and APIs.")
    kubeconfig: Path | None = Field(None, description="None: the pod's ServiceAccount, else the user's own file.")
    workers: int = Field(8, ge=1, le=64, description="Resources that are reconciled side by side.")
    resync_seconds: float = Field(600.0, ge=1, description="Every resource is looked at so often, 10 % more or less.")
    status_seconds: float = Field(
        30.0, ge=1, description="How often a stream's figures are asked for: lag, accepted, stored, dead-lettered."
    )
    leader_election: bool = Field(True, description="Off: for one replica alone, on a laptop.")
    lease_name: str = Field("logstream-operator", min_length=1, description="Of the Lease; one an installation.")
    lease_seconds: float = Field(15.0, ge=3, le=120, description="Another replica takes over when it is not renewed.")
    http_host: str = Field("127.0.0.1", description="Of /livez, /readyz and /metrics; loopback unless told otherwise.")
    http_port: int = Field(8080, ge=0, le=65535, description="0: the system chooses a free one.")
    watcher_seconds: float = Field(
        180.0, ge=10, description="A watcher that has been silent for so long is dead: /livez fails."
    )
    cleanup_attempts: int = Field(
        5, ge=1, le=100, description="Attempts to remove what a deleted stream has outside; then it is left there."
    )
    manage_kafka_users: bool = Field(True, description="Make a SCRAM user a data plane, where Kafka has credentials.")
    manage_clickhouse_users: bool = Field(True, description="Make a user a data plane, where ClickHouse has passwords.")


class Settings(BaseModel):
    """Everything. kafka, postgres: None where there is no default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operator: OperatorSettings
    log: OperatorLog
    kafka: OperatorKafka | None = None
    store: OperatorStore | None = None
    postgres: OperatorPostgres | None = None

    @model_validator(mode="after")
    def _files(self) -> "Settings":
        for part, fields in ((self.kafka, ("ca_file", "cert_file", "key_file")), (self.store, ("ca_file",))):
            for field in fields:
                path: Path | None = getattr(part, field, None)
                if path is not None and not path.is_file():
                    raise ValueError(f"{field}: there is no file {path}")
        return self


SECTIONS: Mapping[str, type[_Given]] = {
    "kafka": OperatorKafka,
    "store": OperatorStore,
    "postgres": OperatorPostgres,
    "log": OperatorLog,
    "operator": OperatorSettings,
}
_OPTIONAL = frozenset({"kafka", "store", "postgres"})


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Raises StartupError with everything that is wrong, and never a value."""
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    given: dict[str, dict[str, str]] = {name: {} for name in SECTIONS}
    for variable, value in _values(environ, problems):
        for section, kind in SECTIONS.items():
            prefix = str(kind.model_config.get("env_prefix"))
            field = variable.removeprefix(prefix).lower()
            if variable.startswith(prefix) and field in kind.model_fields:
                given[section][field] = value
                break
        else:
            problems.append(f"there is no setting {variable}")
    parts: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        if section in _OPTIONAL and not given[section]:
            continue
        try:
            parts[section] = kind.model_validate({n: _typed(kind, n, text) for n, text in given[section].items()})
        except ValidationError as error:
            prefix = str(kind.model_config.get("env_prefix"))
            for found in error.errors(include_input=False, include_url=False):
                where = prefix + "_".join(str(step) for step in found["loc"]).upper()
                problems.append(f"{where.rstrip('_')}: {found['msg'].removeprefix('Value error, ')}")
    if problems:
        raise StartupError("; ".join(problems))
    try:
        return Settings(**parts)
    except ValidationError as error:
        raise StartupError("; ".join(found["msg"] for found in error.errors(include_input=False))) from None


def _values(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Ours, with files read. What Kubernetes puts into a pod's environment for Services is passed over."""
    fields = {
        f"{kind.model_config.get('env_prefix')}{name}".upper()
        for kind in SECTIONS.values()
        for name in kind.model_fields
    }
    for variable, value in environ.items():
        is_link = "_SERVICE_" in variable or (value.startswith(("tcp://", "udp://")) and "_PORT" in variable)
        if not variable.startswith(PREFIX) or is_link:
            continue
        if variable.endswith("_FILE") and variable not in fields:
            try:
                with Path(value).open("rb") as file:
                    text = file.read(MAX_FILE_BYTES + 1)
            except OSError as error:
                problems.append(f"{variable}: {value} cannot be read: {error.strerror or error}")
                continue
            if len(text) > MAX_FILE_BYTES:
                problems.append(f"{variable}: {value} has more than {MAX_FILE_BYTES} bytes")
                continue
            # An editor's last line end is no part of a password.
            yield variable.removesuffix("_FILE"), text.decode(errors="replace").rstrip("\r\n")
        else:
            yield variable, value


def _typed(kind: type[_Given], name: str, text: str) -> object:
    """Lists are JSON; all else pydantic reads from text."""
    annotation = str(kind.model_fields[name].annotation)
    if annotation.startswith("tuple["):
        import json

        try:
            return json.loads(text)
        except ValueError:
            return [part for part in text.split(",") if part]
    return text
