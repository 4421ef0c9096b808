"""The certificate of a process's own port, read again when its files change.

The context that the server was started with stays; each handshake is handed on to the context made last, so that a
new certificate, key or client CA counts from the next connection on, and connections that stand are not disturbed.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from logstream import logs, metrics
from logstream.errors import StartupError
from logstream.settings import TlsSettings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_MAX_PEM_BYTES = 4 * 1024 * 1024

_log = logs.get_logger("tls")

Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """`context` is for the server. Needs `watch`, or a call of `refresh`, to notice changes."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises StartupError when the pair cannot be used."""
        self._settings = settings
        self._paths = [
            path for path in (settings.cert_file, settings.key_file, settings.client_ca_file) if path is not None
        ]
        try:
            # Before the files are read: what changes meanwhile is noticed by the next look.
            self._seen: Stamp = self._stamp()
            self._content = self._read()
            self._current = self._make(self._content)
            # Never with a pair of its own, so that nothing can be answered with an old one.
            self.context = self._bare()
        except (OSError, ValueError) as error:
            raise StartupError(f"TLS: {_reason(error)}") from error
        self.context.sni_callback = self._hand_on
        metrics.TLS_LOADED.set_to_current_time()

    def _hand_on(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    async def watch(self, stop: asyncio.Event) -> None:
        """Look every `reload_seconds` until `stop` is set."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.reload_seconds):
                    await stop.wait()
            if not stop.is_set():
                self.refresh()

    def refresh(self) -> bool:
        """Take what is in the files when they have changed and can be used; whether that was so.

        What cannot be used is logged and counted once, and the old pair stays.
        """
        try:
            # Of what links lead to: mounted Secrets are changed by turning a link to another folder.
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            content = self._read()
            if content == self._content:
                self._seen = stamp
                return False
            context = self._make(content)
        except (OSError, ValueError) as error:
            self._complain(_reason(error))
            return False
        self._seen, self._content, self._current = stamp, content, context
        self._complained = ""
        metrics.TLS_RELOADS.labels("taken").inc()
        metrics.TLS_LOADED.set_to_current_time()
        _log.info("certificate read again", cert_file=str(self._settings.cert_file))
        return True

    _complained = ""

    def _complain(self, reason: str) -> None:
        # It is tried again at each look, as a pair is often written in two steps; said once.
        if reason != self._complained:
            self._complained = reason
            metrics.TLS_RELOADS.labels("refused").inc()
            _log.error("the new certificate cannot be used, the old one stays", reason=reason)

    def _stamp(self) -> Stamp:
        found = [path.stat() for path in self._paths]
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)

    def _read(self) -> tuple[bytes, ...]:
        return tuple(_pem(path) for path in self._paths)

    def _make(self, content: tuple[bytes, ...]) -> ssl.SSLContext:
        """Raises ssl.SSLError (an OSError), ValueError."""
        cert, key, *client_ca = content
        context = self._bare()
        with _path(cert) as cert_path, _path(key) as key_path:
            try:
                context.load_cert_chain(cert_path, key_path, password=_no_passphrase)
            except ssl.SSLError as error:
                raise ValueError(
                    f"{self._settings.cert_file} and {self._settings.key_file} are no pair of certificate and key: "
                    f"{error.reason or error}"
                ) from error
        if client_ca:
            try:
                context.load_verify_locations(cadata=client_ca[0].decode())
            except (ssl.SSLError, UnicodeError) as error:
                raise ValueError(f"{self._settings.client_ca_file} holds no certificate authority: {error}") from error
        return context

    def _bare(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        asks_clients = self._settings.client_ca_file is not None
        context.minimum_version = _VERSIONS[self._settings.min_version or ("1.3" if asks_clients else "1.2")]
        # WebSockets and the handshake of HTTP/1.1 know no other protocol.
        context.set_alpn_protocols(["http/1.1"])
        if asks_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            # A session that is taken up again shows no certificate: one whose CA was removed would go on. TLS 1.2
            # also has sessions without tickets, which Python cannot turn off.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context


def _pem(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_PEM_BYTES + 1)
    if len(data) > _MAX_PEM_BYTES:
        raise ValueError(f"{path} has more than {_MAX_PEM_BYTES} bytes")
    if not data.strip():
        raise ValueError(f"{path} is empty")
    return data


@contextlib.contextmanager
def _path(data: bytes) -> Iterator[str]:
    """A path that leads to `data` in memory: OpenSSL reads pairs from files only, and those may change meanwhile."""
    descriptor = os.memfd_create("logstream-tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_passphrase() -> str:
    # Otherwise OpenSSL asks for it on the terminal, and the process waits for ever.
    raise ValueError("the private key has a passphrase: store it without one")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
