"""A Kafka broker on loopback as one Java process. Standard library only."""

import base64
import os
import secrets
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from logstream.errors import StartupError
from logstream.standalone.full import fetch, keeper
from logstream.standalone.full.kafka_config import HOST, BrokerConfig, SecureListeners, properties

GRACE = 40.0
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""The request that every client sends first (version 0, correlation 1, no client id), with its length."""


class KafkaServer:
    """One broker in `folder`, which is made: configuration, log and certificates; the same over restarts.

    heap_mb: of the Java machine. overrides: broker properties that win over ours. Whoever starts `command`
    or `arguments` calls `prepare` before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        controller_port: int,
        secure: SecureListeners | None = None,
        heap_mb: int = 512,
        log_level: str = "info",
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._config = BrokerConfig(folder / "log", port, controller_port, secure, overrides or {})
        self._heap_mb = heap_mb
        self._log_level = log_level
        self._properties = folder / "server.properties"

    @property
    def bootstrap(self) -> str:
        """host:port of the listener without authentication."""
        return f"{HOST}:{self._config.port}"

    def prepare(self, progress: fetch.Progress | None = None) -> None:
        """Fetch Kafka when the cache has none, write the configuration, format a new log. Raises StartupError."""
        java, libs = fetch.java(), fetch.kafka_libs(progress)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._properties.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(properties(self._config))
        temporary.replace(self._properties)
        if not (self._config.data / "meta.properties").exists():
            self._format(java, libs)

    def _format(self, java: str, libs: Path) -> None:
        cluster = base64.urlsafe_b64encode(b"L" + secrets.token_bytes(15)).rstrip(b"=").decode()
        arguments = ["format", "--cluster-id", cluster, "--config", str(self._properties), "--ignore-formatted"]
        if (secure := self._config.secure) is not None:
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={secure.username},password={secure.password}]"]
        done = subprocess.run(
            [java, *_JAVA, "-Xmx256m", "-cp", f"{libs}/*", "kafka.tools.StorageTool", *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip() or f"status {done.returncode}"
            raise StartupError(f"Kafka could not format its log in {self._config.data}: {reason}")

    def command(self) -> list[str]:
        """What to start. Raises StartupError."""
        return [
            fetch.java(), *_JAVA, f"-Xms{min(128, self._heap_mb)}m", f"-Xmx{self._heap_mb}m",
            "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:+ExitOnOutOfMemoryError",
            f"-Dorg.slf4j.simpleLogger.defaultLogLevel={self._log_level}",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
            "-cp", f"{fetch.kafka_libs()}/*", "kafka.Kafka", str(self._properties),
        ]  # fmt: skip

    def arguments(self) -> list[str]:
        """Behind the interpreter: a keeper, and the broker in it."""
        return keeper.command(self.command(), grace=GRACE)

    def is_ready(self) -> bool:
        """Whether it answers requests."""
        return answers(HOST, self._config.port)


_JAVA = ("-XX:-UsePerfData", "-Djava.awt.headless=true")


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a broker without authentication answers at this address within `timeout` seconds."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(_API_VERSIONS)
            data = b""
            while len(data) < 10:
                if not (more := connection.recv(10 - len(data))):
                    return False
                data += more
            return struct.unpack(">iih", data)[1:] == (1, 0)
    except OSError:
        return False
