"""What the operator is told, and what it says when that is wrong."""

from pathlib import Path

import pytest

from logstream.errors import StartupError
from logstream_operator.run import main
from logstream_operator.settings import load


def test_defaults_and_no_backend_that_was_not_given() -> None:
    found = load({"HOME": "/root", "LOGSTREAM_KAFKA_BOOTSTRAP_SERVERS": "not-mine:9092"})
    assert (found.kafka, found.store, found.postgres) == (None, None, None)
    assert found.operator.workers == 8


def test_sections_lists_and_files(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    found = load(
        {
            "LOGSTREAM_OPERATOR_NAMESPACES": '["a", "b"]',
            "LOGSTREAM_OPERATOR_KAFKA_BOOTSTRAP_SERVERS": "k:9092",
            "LOGSTREAM_OPERATOR_KAFKA_PARTITIONS": "3",
            "LOGSTREAM_OPERATOR_STORE_URL": "http://c:8123",
            "LOGSTREAM_OPERATOR_POSTGRES_URL": "postgresql://admin@p/postgres",
            "LOGSTREAM_OPERATOR_POSTGRES_PASSWORD_FILE": str(secret),
            "LOGSTREAM_OPERATOR_LOG_LEVEL": "debug",
            "LOGSTREAM_OPERATOR_SERVICE_HOST": "10.0.0.1",
            "LOGSTREAM_OPERATOR_PORT_80_TCP": "tcp://10.0.0.1:80",
        }
    )
    assert found.operator.namespaces == ("a", "b")
    assert found.kafka is not None
    assert (found.kafka.bootstrap_servers, found.kafka.partitions) == ("k:9092", 3)
    assert found.postgres is not None
    assert found.postgres.password.get_secret_value() == "s3cret"
    assert found.log.level == "debug"
    assert "s3cret" not in repr(found)


def test_everything_that_is_wrong_is_told_at_once_and_no_value() -> None:
    with pytest.raises(StartupError) as told:
        load(
            {
                "LOGSTREAM_OPERATOR_WORKERS": "many",
                "LOGSTREAM_OPERATOR_WORKER": "1",
                "LOGSTREAM_OPERATOR_POSTGRES_PASSWORD_FILE": "/nowhere",
                "LOGSTREAM_OPERATOR_KAFKA_SECURITY_PROTOCOL": "hunter2",
            }
        )
    message = told.value.message
    for name in ("WORKERS", "WORKER", "POSTGRES_PASSWORD_FILE", "KAFKA_SECURITY_PROTOCOL"):
        assert f"LOGSTREAM_OPERATOR_{name}" in message
    assert "hunter2" not in message


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name in ("WORKERS", "KAFKA_BOOTSTRAP_SERVERS", "STORE_URL", "POSTGRES_URL", "LOG_LEVEL"):
        assert f"LOGSTREAM_OPERATOR_{name}" in said


def test_wrong_settings_end_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOGSTREAM_OPERATOR_WORKERS", "0")
    assert main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("logstream-operator: LOGSTREAM_OPERATOR_WORKERS")
