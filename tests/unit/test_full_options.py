"""What `logstream up-full` is told, and the broker's configuration."""

import re
from pathlib import Path

import pytest

from logstream.errors import StartupError
from logstream.standalone.full.kafka_config import BrokerConfig, SecureListeners, properties
from logstream.standalone.full.options import FullOptions, check, parse


def test_options_come_through_the_command_line_unchanged() -> None:
    options = FullOptions(Path("/somewhere else"), "0.0.0.0", 1, 2, 3, 4, 5, 6, 7)
    assert parse(options.arguments()) == options
    assert parse([]) == FullOptions()


def test_the_defaults_do_not_collide() -> None:
    check(FullOptions())
    check(FullOptions(collector_port=0, api_port=0, processor_port=0, kafka_port=0, controller_port=0))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (FullOptions(kafka_port=70_000), "--kafka-port must be between 0 and 65535, not 70000"),
        (FullOptions(api_port=65_530), "--api-port must be between 0 and 65535, not 65540"),
        (FullOptions(kafka_port=8123), "--kafka-port and --clickhouse-port must differ, not both be 8123"),
        (
            FullOptions(api_port=8090),
            "--api-port and --collector-port (second process: 8090) must differ, not both be 8090",
        ),
    ],
)
def test_a_port_that_cannot_be_is_named(options: FullOptions, reason: str) -> None:
    with pytest.raises(StartupError, match=f"^{re.escape(reason)}$"):
        check(options)


def _parsed(config: BrokerConfig) -> dict[str, str]:
    return dict(line.split("=", 1) for line in properties(config).splitlines())


def test_a_plain_broker_listens_on_loopback_only() -> None:
    values = _parsed(BrokerConfig(Path("/data/log"), 9092, 9093))
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert values["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert values["log.dirs"] == "/data/log"
    assert not any("sasl" in name or "ssl" in name for name in values)


def test_a_broker_s_own_properties_win() -> None:
    config = BrokerConfig(Path("/data/log"), 9092, 9093, overrides={"message.max.bytes": "7", "node.id": "4"})
    values = _parsed(config)
    assert (values["message.max.bytes"], values["node.id"]) == ("7", "4")


def test_secure_listeners_ask_who_is_there() -> None:
    secure = SecureListeners(1, 2, 3, "user", "secret", Path("/ca.pem"), Path("/server.pem"))
    values = _parsed(BrokerConfig(Path("/data/log"), 9092, 9093, secure))
    assert values["listener.name.ssl.ssl.client.auth"] == "required"
    assert values["listener.name.sasl_ssl.ssl.client.auth"] == "none"
    assert (
        "PLAINTEXT://127.0.0.1:9092,SASL_PLAINTEXT://127.0.0.1:1,SSL://127.0.0.1:2,SASL_SSL://127.0.0.1:3"
        in (values["listeners"])
    )
    assert "secret" not in repr(secure)
