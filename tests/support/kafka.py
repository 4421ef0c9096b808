"""A real Kafka broker for tests."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from logstream.standalone.full.kafka_config import HOST, SecureListeners
from logstream.standalone.full.kafka_server import KafkaServer
from logstream.standalone.full.process import ServerProcess
from tests.support.certificates import Authority
from tests.support.ports import free_ports
from tests.support.server import OwnServer


@dataclass(frozen=True, slots=True)
class Secure:
    """Addresses (host:port) of the listeners that ask who is there, and what opens them.

    sasl_plaintext, sasl_ssl: `username` and `password` by PLAIN or SCRAM-SHA-512. ssl: asks for a client
    certificate (`cert_file`, `key_file`). stranger_cert_file, stranger_key_file: signed by another authority.
    """

    sasl_plaintext: str
    ssl: str
    sasl_ssl: str
    username: str
    password: str = field(repr=False)
    ca_file: Path
    cert_file: Path
    key_file: Path
    stranger_ca_file: Path
    stranger_cert_file: Path
    stranger_key_file: Path


class Kafka(OwnServer):
    """A broker of our own in `folder`, with all listeners; who kills it starts it again.

    `start`, `stop`, `kill` (SIGKILL), `restart`, `pause` (SIGSTOP), `resume`; the address and the data stay. They
    wait, up to a minute: call them with `asyncio.to_thread` in asynchronous tests.
    overrides: broker properties, such as {"message.max.bytes": "100000"}.
    """

    def __init__(self, folder: Path, overrides: Mapping[str, str] | None = None) -> None:
        port, controller_port, sasl_plaintext, ssl, sasl_ssl = free_ports(5)
        authority, stranger = Authority(folder / "certificates"), Authority(folder / "strangers")
        client, other = authority.issue("client", client=True), stranger.issue("client", client=True)
        listeners = SecureListeners(
            sasl_plaintext_port=sasl_plaintext,
            ssl_port=ssl,
            sasl_ssl_port=sasl_ssl,
            username="logstream",
            password=secrets.token_hex(12),
            ca_file=authority.ca_file,
            server_file=authority.issue("broker").both_file,
        )
        self._server = KafkaServer(
            folder, port=port, controller_port=controller_port, secure=listeners, overrides=overrides
        )
        self._process: ServerProcess | None = None
        self._log = folder / "broker.log"
        self.bootstrap = self._server.bootstrap
        self.secure: Secure | None = Secure(
            sasl_plaintext=f"{HOST}:{sasl_plaintext}",
            ssl=f"{HOST}:{ssl}",
            sasl_ssl=f"{HOST}:{sasl_ssl}",
            username=listeners.username,
            password=listeners.password,
            ca_file=authority.ca_file,
            cert_file=client.cert_file,
            key_file=client.key_file,
            stranger_ca_file=stranger.ca_file,
            stranger_cert_file=other.cert_file,
            stranger_key_file=other.key_file,
        )

    @property
    def process(self) -> ServerProcess:
        if self._process is None:
            self._server.prepare()
            self._process = ServerProcess("Kafka", self._server.arguments(), self._log, self._server.is_ready)
        return self._process


class ForeignKafka:
    """The broker that LOGSTREAM_TEST_KAFKA names: it is not ours to stop, and nobody told how to log in."""

    secure: Secure | None = None

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def ensure_running(self) -> None: ...
