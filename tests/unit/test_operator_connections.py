"""Secrets of tenants as settings: what they lack is named, and nothing comes from the operator's own."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from logstream.settings import KafkaSettings
from logstream_operator.external import connections
from logstream_operator.external.accounts import database_name, scram_verifier
from logstream_operator.external.connections import Files, kafka_settings, postgres_url, read_secret, store_settings
from logstream_operator.external.problem import Refused


def secret(**values: str) -> dict[str, dict[str, str]]:
    return {
        "data": {key.replace("_dot_", "."): base64.b64encode(text.encode()).decode() for key, text in values.items()}
    }


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_what_is_missing_is_named_with_the_field() -> None:
    with pytest.raises(Refused, match=r"spec.connections.kafka.secretRef: there is no Secret mine") as told:
        read_secret("kafka", None, "mine")
    assert told.value.reason == "SecretMissing"
    for values in (secret(), secret(bootstrap_servers=" ")):
        with pytest.raises(Refused, match="lacks bootstrap_servers"):
            read_secret("kafka", values, "mine")
    with pytest.raises(Refused, match="is no text"):
        read_secret("kafka", {"data": {"bootstrap_servers": base64.b64encode(b"\xff\xfe").decode()}}, "mine")
    with pytest.raises(Refused, match="longer than"):
        read_secret("kafka", secret(bootstrap_servers="x" * 70_000), "mine")


def test_nothing_of_the_administrator_goes_to_an_address_of_a_tenant(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGSTREAM_KAFKA_PASSWORD", "environment")
    monkeypatch.setenv("LOGSTREAM_STORE_PASSWORD", "environment")
    own = KafkaSettings(
        security_protocol="SASL_SSL", username="admin", password=SecretStr("admin"), partitions=9, replication_factor=3
    )
    found = kafka_settings({"bootstrap_servers": "evil:9092"}, files, own)
    assert found.username == ""
    assert found.password.get_secret_value() == ""
    assert found.security_protocol == "PLAINTEXT"
    assert found.partitions == 9
    store = store_settings({"url": "http://evil:8123"}, files)
    assert (store.username, store.password.get_secret_value()) == ("default", "")


def test_certificates_are_files_of_the_operator_alone(files: Files, tmp_path: Path) -> None:
    path = files.put("PEM")
    assert path.read_text() == "PEM"
    assert path.stat().st_mode & 0o077 == 0
    assert files.put("PEM") == path
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_postgres_url_reaches_no_files_of_the_operator(files: Files) -> None:
    assert postgres_url({"url": "postgresql://u:p@h/d?sslmode=require"}, files) == (
        "postgresql://u@h/d?sslmode=require", "p",
    )  # fmt: skip
    assert postgres_url({"url": "postgresql://u@h/d", "password": "q"}, files)[1] == "q"
    for url in ("postgresql://u@h/d?passfile=/etc/passwd", "postgresql://u@h/d?service=x", "postgresql:///d", "no"):
        with pytest.raises(Refused) as told:
            postgres_url({"url": url}, files)
        assert told.value.reason == "SecretInvalid"


def test_wrong_values_are_named_and_not_repeated(files: Files) -> None:
    with pytest.raises(Refused, match="security_protocol") as told:
        kafka_settings({"bootstrap_servers": "h:1", "security_protocol": "hunter2"}, files, None)
    assert "hunter2" not in told.value.message
    with pytest.raises(Refused, match=r"spec.connections.clickhouse.secretRef"):
        store_settings({"url": "http://u:hunter2@h"}, files)


def test_names_of_databases_fit_and_stay_apart() -> None:
    long = database_name("n" * 63, "s" * 50, "u1")
    assert len(long) == 63
    assert long != database_name("n" * 63, "s" * 50, "u2")
    assert database_name("team-a", "shop", "u") == database_name("team-a", "shop", "u")


def test_the_checksum_tells_every_change() -> None:
    sums = {
        connections.checksum(values)
        for values in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {"a": "1b"}, {})
    }
    assert len(sums) == 6


def test_a_password_is_kept_as_postgres_keeps_it() -> None:
    # RFC 7677's example: user "user", password "pencil".
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert scram_verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
