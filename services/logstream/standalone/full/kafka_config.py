"""The broker's server.properties: one node that is broker and controller (KRaft), on loopback. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class SecureListeners:
    """Ports and secrets of the listeners that ask who is there.

    sasl_plaintext and sasl_ssl take PLAIN and SCRAM-SHA-512 with `username` and `password`; ssl takes a client
    certificate that `ca_file` signed. server_file: PEM with the broker's private key (PKCS#8) and certificate.
    """

    sasl_plaintext_port: int
    ssl_port: int
    sasl_ssl_port: int
    username: str
    password: str = field(repr=False)
    ca_file: Path
    server_file: Path


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """data: folder of the log. port, controller_port: on loopback. overrides: properties that win."""

    data: Path
    port: int
    controller_port: int
    secure: SecureListeners | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


def properties(config: BrokerConfig) -> str:
    """The file's text. It holds secrets when there are secure listeners."""
    listeners = {"PLAINTEXT": config.port}
    if (secure := config.secure) is not None:
        listeners |= {
            "SASL_PLAINTEXT": secure.sasl_plaintext_port, "SSL": secure.ssl_port, "SASL_SSL": secure.sasl_ssl_port,
        }  # fmt: skip
    advertised = ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items())
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{config.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{advertised},CONTROLLER://{HOST}:{config.controller_port}",
        "advertised.listeners": advertised,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{n}:{n}" for n in listeners) + ",CONTROLLER:PLAINTEXT",
        "log.dirs": str(config.data),
        # Who creates topics says how many partitions; a misspelt name is an error.
        "auto.create.topics.enable": "false",
        # One node: nothing to replicate to, and no reason for fifty partitions of bookkeeping.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # The default waits three seconds for further members of a new group.
        "group.initial.rebalance.delay.ms": "0",
        # After a kill the broker is let in again only when its former self has timed out (default: 9 s).
        "broker.session.timeout.ms": "6000",
        "broker.heartbeat.interval.ms": "500",
    }
    if secure is not None:
        values |= _secure(secure)
    values |= config.overrides
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _secure(secure: SecureListeners) -> dict[str, str]:
    module = "org.apache.kafka.common.security"
    plain = f'{module}.plain.PlainLoginModule required user_{secure.username}="{secure.password}";'
    scram = f"{module}.scram.ScramLoginModule required;"
    values = {"sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512"}
    for listener in ("sasl_plaintext", "sasl_ssl"):
        values[f"listener.name.{listener}.plain.sasl.jaas.config"] = plain
        values[f"listener.name.{listener}.scram-sha-512.sasl.jaas.config"] = scram
    for listener, client_auth in (("ssl", "required"), ("sasl_ssl", "none")):
        values |= {
            f"listener.name.{listener}.ssl.keystore.type": "PEM",
            f"listener.name.{listener}.ssl.keystore.location": str(secure.server_file),
            f"listener.name.{listener}.ssl.truststore.type": "PEM",
            f"listener.name.{listener}.ssl.truststore.location": str(secure.ca_file),
            f"listener.name.{listener}.ssl.client.auth": client_auth,
        }
    return values
