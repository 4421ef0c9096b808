"""Settings of processes run apart: environment over file over default, every problem by name, secrets never shown."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from logstream.run import show, sources
from logstream.run.load import Loaded, WrongSettings, load
from logstream.run.settings import PROCESSES, ApiProcess, CollectorProcess, ProcessorProcess, ProcessSettings


def write(folder: Path, text: str, name: str = "logstream.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(kind: type[ProcessSettings], environ: Mapping[str, str], path: Path | None = None) -> list[str]:
    with pytest.raises(WrongSettings) as caught:
        load(kind, environ=environ, path=path)
    return caught.value.problems


@pytest.mark.parametrize("kind", PROCESSES.values())
def test_defaults_are_enough(kind: type[ProcessSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    # Not looked at: only what `load` is given counts.
    monkeypatch.setenv("LOGSTREAM_RUN_DRAIN_SECONDS", "no number")
    loaded = load(kind, environ={})
    assert loaded.settings.run.drain_seconds == 5.0
    assert loaded.given == {}
    with pytest.raises(ValidationError, match="frozen"):
        loaded.settings.run = loaded.settings.run  # type: ignore[misc]


def test_environment_wins_over_file_and_file_over_default(tmp_path: Path) -> None:
    path = write(tmp_path, "collector: {port: 1000, flush_rows: 7}\ningest: {max_records: 9}\n")
    loaded = load(CollectorProcess, environ={"LOGSTREAM_COLLECTOR_PORT": "2000"}, path=path)
    assert loaded.settings.collector.port == 2000
    assert loaded.settings.collector.flush_rows == 7
    assert loaded.settings.collector.limits.max_records == 9
    assert loaded.settings.collector.flush_seconds == 0.005
    assert loaded.given["collector", "port"].source == "LOGSTREAM_COLLECTOR_PORT"
    assert loaded.given["ingest", "max_records"].source == str(path)


def test_one_file_serves_all_processes(tmp_path: Path) -> None:
    path = write(tmp_path, "api: {max_limit: 5}\nprocessor: {max_rows: 6}\ncollector: {flush_rows: 7}\n")
    assert load(ApiProcess, environ={}, path=path).settings.api.max_limit == 5
    assert load(ProcessorProcess, environ={}, path=path).settings.processor.max_rows == 6
    assert load(CollectorProcess, environ={}, path=path).given.keys() == {("collector", "flush_rows")}


def test_replays_and_dry_runs_have_the_limits_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "ingest: {max_message_bytes: 64}")
    assert load(ApiProcess, environ={}, path=path).settings.api.limits.max_message_bytes == 64


def test_json_is_taken_too(tmp_path: Path) -> None:
    path = write(tmp_path, '{"run": {"streams": [{"name": "shop", "retention_days": 7}]}}')
    (stream,) = load(CollectorProcess, environ={}, path=path).settings.streams()
    assert (stream.name, stream.retention_days) == ("shop", 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("colector: {}", "there is no section 'colector'; do you mean collector?"),
        ("collector: {flush_row: 1}", "there is no field collector.flush_row; do you mean flush_rows?"),
        ("collector: {zzz: 1}", "there is no field collector.zzz"),
        # Of another process, and still wrong.
        ("processor: {max_row: 1}", "there is no field processor.max_row; do you mean max_rows?"),
        ("collector: {port: 1, port: 2}", "'port' is given twice"),
        ("collector: 8080", "collector must hold fields"),
        ("- 1", "must hold sections"),
        ("a: [", "line 1: no YAML"),
        ("a: !!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    (problem,) = problems(CollectorProcess, {}, path)
    assert problem.startswith(str(path))
    assert expected in problem


def test_an_empty_file_and_empty_sections_say_nothing(tmp_path: Path) -> None:
    assert load(CollectorProcess, environ={}, path=write(tmp_path, "# nothing yet\n")).given == {}
    assert load(CollectorProcess, environ={}, path=write(tmp_path, "collector:\nrun:\n")).given == {}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (problem,) = problems(CollectorProcess, {}, tmp_path / "nowhere.yaml")
    assert problem == f"--config: cannot read {tmp_path}/nowhere.yaml: No such file or directory"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "ingest: {max_records: 0}\nrun: {bus: nats, nonsense: 1}\n")
    environ = {
        "LOGSTREAM_COLLECTOR_FLUSH_ROWS": "many",
        "LOGSTREAM_TLS_CERT_FILE": "/nowhere/tls.crt",
        "LOGSTREAM_AUTH_URL": "mysql://root:secret@db/logs",
    }
    found = "\n".join(problems(CollectorProcess, environ, path))
    assert f"ingest.max_records ({path}): Input should be greater than or equal to 1" in found
    assert f"run.bus ({path}): Input should be 'kafka' or 'sqlite'" in found
    assert "there is no field run.nonsense" in found
    assert "collector.flush_rows (LOGSTREAM_COLLECTOR_FLUSH_ROWS): Input should be a valid integer" in found
    assert "tls.cert_file and tls.key_file go together" in found
    assert "tls.cert_file: there is no file /nowhere/tls.crt" in found
    assert "auth.url must begin with sqlite+aiosqlite:// or postgresql://, not mysql://" in found
    assert "secret" not in found
    assert len(found.splitlines()) == 7


def test_wrong_streams_are_named(tmp_path: Path) -> None:
    environ = {"LOGSTREAM_RUN_STREAMS": '[{"name": "Ä"}]'}
    assert problems(CollectorProcess, environ)[0].startswith("run.streams: name must be 1 to 50 characters")
    (problem,) = problems(CollectorProcess, {"LOGSTREAM_RUN_STREAMS": '[{"name": "a", "days": 3}]'})
    assert problem.startswith("run.streams.0.days (LOGSTREAM_RUN_STREAMS): Extra inputs are not permitted")
    (problem,) = problems(CollectorProcess, {"LOGSTREAM_RUN_STREAMS": "[1"})
    assert problem.startswith("LOGSTREAM_RUN_STREAMS is no JSON")


def test_lists_may_be_separated_by_commas() -> None:
    environ = {"LOGSTREAM_COLLECTOR_CORS_ORIGINS": "https://a.example, https://b.example"}
    assert load(CollectorProcess, environ=environ).settings.collector.cors_origins == (
        "https://a.example",
        "https://b.example",
    )


def test_what_kubernetes_adds_for_services_is_no_setting() -> None:
    environ = {
        "LOGSTREAM_API_PORT": "tcp://10.0.0.1:8081",
        "LOGSTREAM_API_PORT_8081_TCP": "tcp://10.0.0.1:8081",
        "LOGSTREAM_API_PORT_8081_TCP_ADDR": "10.0.0.1",
        "LOGSTREAM_API_SERVICE_HOST": "10.0.0.1",
        "LOGSTREAM_API_SERVICE_PORT": "8081",
        "LOGSTREAM_API_SERVICE_PORT_HTTP": "8081",
    }
    loaded = load(ApiProcess, environ=environ)
    assert loaded.settings.api.port == 8081
    assert (loaded.given, loaded.warnings) == ({}, [])


def test_unknown_variables_warn_and_those_of_the_command_line_do_not() -> None:
    names = ("API_KEY", "API_URL", "INGEST_URL", "CONFIG", "CONTEXT", "CACHE", "UP_HANG_SECONDS")
    environ = {f"LOGSTREAM_{name}": "x" for name in names} | {"LOGSTREAM_RUN_DRAIN_SECOND": "1"}
    assert load(ApiProcess, environ=environ).warnings == [
        "LOGSTREAM_RUN_DRAIN_SECOND is no setting of this release; do you mean LOGSTREAM_RUN_DRAIN_SECONDS?"
    ]


def test_a_processor_follows_accounts_only_where_they_are_named() -> None:
    assert load(ProcessorProcess, environ={}).settings.auth is None
    environ = {"LOGSTREAM_AUTH_URL": "postgresql://logstream@db/logstream"}
    settings = load(ProcessorProcess, environ=environ).settings
    assert settings.auth is not None
    assert settings.auth.url == environ["LOGSTREAM_AUTH_URL"]


# Secrets


def test_secrets_come_from_files(tmp_path: Path) -> None:
    secret = write(tmp_path, "hunter2 with a blank \n", "password")
    environ = {
        "LOGSTREAM_RUN_ADMIN_EMAIL": "ann@example.com",
        "LOGSTREAM_RUN_ADMIN_PASSWORD_FILE": str(secret),
    }
    loaded = load(ApiProcess, environ=environ)
    assert loaded.settings.run.admin_password.get_secret_value() == "hunter2 with a blank "
    assert loaded.given["run", "admin_password"].source == f"{secret} (LOGSTREAM_RUN_ADMIN_PASSWORD_FILE)"

    path = write(tmp_path, f"run: {{admin_email: ann@example.com, admin_password_file: {secret}}}\n")
    assert load(ApiProcess, environ={}, path=path).settings.run.admin_password.get_secret_value().startswith("hunter2")


def test_a_secret_given_twice_or_in_no_file_is_refused(tmp_path: Path) -> None:
    both = {"LOGSTREAM_STORE_PASSWORD": "a", "LOGSTREAM_STORE_PASSWORD_FILE": str(write(tmp_path, "b", "s"))}
    assert "LOGSTREAM_STORE_PASSWORD and LOGSTREAM_STORE_PASSWORD_FILE are both given: take one away" in problems(
        ApiProcess, both
    )
    (problem,) = problems(ApiProcess, {"LOGSTREAM_STORE_PASSWORD_FILE": "/nowhere"})
    assert problem == "LOGSTREAM_STORE_PASSWORD_FILE: cannot read /nowhere: No such file or directory"
    path = write(tmp_path, "store: {password: a, password_file: b}")
    (problem,) = problems(ApiProcess, {}, path)
    assert problem == f"{path}: store.password and store.password_file are both given: take one away"
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    (problem,) = problems(ApiProcess, {"LOGSTREAM_STORE_PASSWORD_FILE": str(binary)})
    assert problem.endswith("no UTF-8")


def printed(loaded: Loaded[ProcessSettings]) -> str:
    return "\n".join(show.lines(loaded))


def test_printed_settings_show_sources_and_no_secret(tmp_path: Path) -> None:
    secret = write(tmp_path, "hunter2", "password")
    environ = {
        "LOGSTREAM_RUN_ADMIN_EMAIL": "ann@example.com",
        "LOGSTREAM_RUN_ADMIN_PASSWORD": "hunter2",
        "LOGSTREAM_STORE_PASSWORD_FILE": str(secret),
        "LOGSTREAM_AUTH_URL": "postgresql://ann:hunter2@db/logs?password=hunter2",
        "LOGSTREAM_REDACTION_HASH_KEY": "hunter2-hunter2-hunter2",
    }
    for kind in PROCESSES.values():
        text = printed(load(kind, environ=environ))  # type: ignore[arg-type]
        assert "hunter2" not in text
        assert "  hang_seconds: 60.0  # default" in text
        assert '  admin_password: "***"  # LOGSTREAM_RUN_ADMIN_PASSWORD' in text
    text = printed(load(ApiProcess, environ=environ))  # type: ignore[arg-type]
    assert f'  password: "***"  # {secret} (LOGSTREAM_STORE_PASSWORD_FILE)' in text
    assert '  url: "postgresql://ann:***@db/logs?password=***"  # LOGSTREAM_AUTH_URL' in text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:hunter2@db/logs", "postgresql://ann:***@db/logs"),
        ("postgresql://ann:hun/ter2@db/logs", "postgresql://ann:***@db/logs"),
        ("postgresql://ann:hun ter2@db/logs", "postgresql://ann:***@db/logs"),
        ('postgresql://ann:hun"ter2@db/logs', "postgresql://ann:***@db/logs"),
        ("postgresql://ann:hun@ter2@db/logs", "postgresql://ann:***@db/logs"),
        ("postgresql://:hunter2@db/logs", "postgresql://:***@db/logs"),
        ("http://a:8123,http://b:8123", "http://a:8123,http://b:8123"),
        ("http://u:p@a:8123,http://v:q@b:8123", "http://u:***@a:8123,http://v:***@b:8123"),
        ("sqlite+aiosqlite:///a:b@c.db", "sqlite+aiosqlite:///a:b@c.db"),
    ],
)
def test_passwords_in_addresses_are_masked_whatever_is_in_them(address: str, shown: str) -> None:
    assert show.masked(address) == shown


@pytest.mark.parametrize(
    ("kind", "environ", "problem"),
    [
        (ProcessorProcess, {"LOGSTREAM_STORE_URL": "clickhouse:8123"}, "store.url: store url must be http://HOST:PORT"),
        (ApiProcess, {"LOGSTREAM_STORE_URL": "http://u:p@h"}, "store.url: store url must not hold a user or password"),
        (ApiProcess, {"LOGSTREAM_STORE_CA_FILE": "/nowhere"}, "store.ca_file: store.ca_file /nowhere cannot be read"),
        (ApiProcess, {"LOGSTREAM_STORE_CLUSTER": "a'b"}, "store.cluster: "),
        (
            ProcessorProcess,
            {"LOGSTREAM_STORE_URL": "http://a,http://b"},
            "store.cluster: store url names several servers",
        ),
        (CollectorProcess, {"LOGSTREAM_REDACTION_DETECTORS": "cards"}, "redaction.detectors.0: there is no detector"),
        (
            ApiProcess,
            {"LOGSTREAM_REDACTION_RULES": '[{"name": "a", "pattern": "("}]'},
            "redaction.rules.0.pattern: the pattern of the rule 'a'",
        ),
    ],
)
def test_what_would_only_fail_later_is_told_with_the_settings(
    kind: type[ProcessSettings], environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(WrongSettings) as error:
        load(kind, environ=environ)
    (told,) = error.value.problems
    assert told.startswith(problem)


@pytest.mark.parametrize("kind", PROCESSES.values())
def test_printed_settings_can_be_given_back(kind: type[ProcessSettings], tmp_path: Path) -> None:
    environ = {
        "LOGSTREAM_RUN_STREAMS": '[{"name": "shop"}]',
        "LOGSTREAM_RUN_HEALTH_PORT": "0",
        "LOGSTREAM_AUTH_URL": "sqlite+aiosqlite:///a.db",
    }
    first = load(kind, environ=environ)
    again = load(kind, environ={}, path=write(tmp_path, printed(first)))  # type: ignore[arg-type]
    assert again.settings == first.settings


def test_every_secret_field_is_known_as_one() -> None:
    for section, kind in sources.sections().items():
        for field in sources.plain_fields(kind):
            looks = any(word in field for word in ("password", "secret", "hash_key"))
            assert sources.is_secret(kind, field) or not looks, f"{section}.{field}"
