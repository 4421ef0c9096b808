"""TLS with real handshakes: certificates that change while connections are under way, and broken ones."""

import asyncio
import contextlib
import functools
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
import websockets
from cryptography import x509
from cryptography.x509.oid import NameOID
from tests.support.certificates import Authority, Pair

from logstream import metrics, web
from logstream.errors import StartupError
from logstream.run.tls import Certificates
from logstream.settings import TlsSettings


class Mount:
    """A folder as Kubernetes mounts a Secret: the files are links through ..data, which is turned in one step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._version = 0

    def put(self, pair: Pair, **others: Path) -> None:
        self._version += 1
        version = self.folder / f"..version-{self._version}"
        version.mkdir()
        files = {"tls.crt": pair.cert_file, "tls.key": pair.key_file} | {f"{k}.crt": v for k, v in others.items()}
        for name, source in files.items():
            shutil.copy(source, version / name)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        turned = self.folder / "..data_tmp"
        turned.symlink_to(version.name)
        turned.replace(self.folder / "..data")

    def settings(self, **values: object) -> TlsSettings:
        given = {"cert_file": self.folder / "tls.crt", "key_file": self.folder / "tls.key", **values}
        return TlsSettings(**given)  # type: ignore[arg-type]


@dataclass
class Served:
    certificates: Certificates
    port: int
    authority: Authority

    def context(self, client: Pair | None = None, *, verify: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.ca_file)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if client is not None:
            context.load_cert_chain(client.cert_file, client.key_file)
        return context

    async def connect(
        self, client: Pair | None = None, *, name: str = "localhost"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context(client), server_hostname=name)

    async def names(self, client: Pair | None = None, *, name: str = "localhost") -> str:
        """The common name of the server's certificate, after a request that was answered."""
        reader, writer = await self.connect(client, name=name)
        try:
            assert await request(reader, writer) == 200
            return common_name(writer)
        finally:
            writer.close()


def common_name(writer: asyncio.StreamWriter) -> str:
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    (found,) = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found.value)


async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 2" in head
    assert await reader.readexactly(2) == b"{}"
    return int(head.split()[1])


async def app(scope: web.Scope, receive: web.Receive, send: web.Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        await send({"type": "websocket.close", "code": 1000})
    else:
        assert scope["scheme"] == "https"
        await web.respond(send, 200, b"{}")


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The loop that processes run on does TLS in its own way."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        uvloop.run(test(**fixtures))

    return run


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "mount")


@contextlib.asynccontextmanager
async def serving(settings: TlsSettings, authority: Authority, *, handshake: float = 10.0) -> AsyncIterator[Served]:
    certificates = Certificates(settings)
    sock = web.listen("127.0.0.1", 0)
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        web.serve(app, sock, stop, ready=ready.set, tls=certificates.context, header_timeout=handshake)
    )
    await ready.wait()
    try:
        yield Served(certificates, sock.getsockname()[1], authority)
    finally:
        stop.set()
        await task


@on_uvloop
async def test_a_new_certificate_counts_from_the_next_connection_on(mount: Mount, authority: Authority) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(), authority) as served:
        assert await served.names() == "one"
        connections = [await served.connect() for _ in range(100)]
        assert not served.certificates.refresh()
        mount.put(authority.issue("two"))
        assert served.certificates.refresh()
        # Also without a server name in the handshake, as for addresses.
        assert await served.names(name="127.0.0.1") == "two"
        assert {await served.names() for _ in range(10)} == {"two"}
        # What was under way goes on, with the certificate that it began with.
        assert {await request(*connection) for connection in connections} == {200}
        assert {common_name(writer) for _, writer in connections} == {"one"}
        for _, writer in connections:
            writer.close()


@on_uvloop
async def test_handshakes_while_certificates_change(mount: Mount, authority: Authority) -> None:
    pairs = [authority.issue(name) for name in ("one", "two")]
    mount.put(pairs[0])
    seen: set[str] = set()
    async with serving(mount.settings(), authority) as served:
        over = False

        async def connect() -> None:
            while not over:
                seen.add(await served.names())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(connect())
            for turn in range(20):
                mount.put(pairs[(turn + 1) % 2])
                assert served.certificates.refresh()
                await asyncio.sleep(0.02)
            over = True
    assert seen == {"one", "two"}


@pytest.mark.parametrize("broken", ["other key", "no certificate", "empty", "gone", "half", "passphrase"])
@on_uvloop
async def test_a_broken_pair_is_told_once_and_the_old_one_stays(
    mount: Mount, authority: Authority, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair, other = authority.issue("one"), authority.issue("two")
    mount.put(pair)
    async with serving(mount.settings(), authority) as served:
        refused = metrics.TLS_RELOADS.labels("refused")
        before = refused._value.get()
        wrong = mount.folder / "wrong"
        if broken == "other key":
            mount.put(Pair(other.cert_file, pair.key_file, pair.both_file))
        elif broken == "gone":
            (mount.folder / "..data").unlink()
        else:
            content = {
                "no certificate": b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
                "empty": b"",
                "half": other.cert_file.read_bytes()[:200],
                "passphrase": b"",
            }[broken]
            wrong.write_bytes(content)
            if broken == "passphrase":
                lock(other, wrong)
                mount.put(Pair(other.cert_file, wrong, pair.both_file))
            else:
                mount.put(Pair(wrong, other.key_file, pair.both_file))
        for _ in range(3):
            assert not served.certificates.refresh()
        assert await served.names() == "one"
        assert refused._value.get() == before + 1
        if broken == "gone":
            (mount.folder / "..data").symlink_to("..version-1")
        mount.put(other)
        assert served.certificates.refresh()
        assert await served.names() == "two"


def lock(pair: Pair, target: Path) -> None:
    """The pair's key under a passphrase."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key_file.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        )
    )


@on_uvloop
async def test_a_pair_written_in_two_steps_is_taken_when_it_is_whole(tmp_path: Path, authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(one.cert_file, cert)
    shutil.copy(one.key_file, key)
    async with serving(TlsSettings(cert_file=cert, key_file=key), authority) as served:
        shutil.copy(two.cert_file, cert)
        assert not served.certificates.refresh()
        assert await served.names() == "one"
        shutil.copy(two.key_file, key)
        assert served.certificates.refresh()
        assert await served.names() == "two"
        # Written anew with the same content, as renewals that renew nothing do.
        os.utime(cert)
        assert not served.certificates.refresh()


@on_uvloop
async def test_files_are_watched(mount: Mount, authority: Authority) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(reload_seconds=0.02), authority) as served:
        stop = asyncio.Event()
        watching = asyncio.create_task(served.certificates.watch(stop))
        mount.put(authority.issue("two"))
        async with asyncio.timeout(20):
            while await served.names() != "two":
                await asyncio.sleep(0.02)
        stop.set()
        await watching


@on_uvloop
async def test_clients_need_a_certificate_where_an_authority_for_them_is_set(
    mount: Mount, authority: Authority, tmp_path: Path
) -> None:
    ours, strangers = Authority(tmp_path / "ours"), Authority(tmp_path / "strangers")
    client, stranger = ours.issue("client", client=True), strangers.issue("client", client=True)
    pair = authority.issue("one")
    mount.put(pair, ca=ours.ca_file)
    async with serving(mount.settings(client_ca_file=mount.folder / "ca.crt"), authority) as served:
        assert await served.names(client) == "one"
        for wrong in (None, stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await served.names(wrong)
        # The authority changes: the one before counts no longer.
        mount.put(pair, ca=strangers.ca_file)
        assert served.certificates.refresh()
        assert await served.names(stranger) == "one"
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await served.names(client)


@on_uvloop
async def test_a_session_from_before_opens_nothing_to_clients_without_a_certificate(
    mount: Mount, authority: Authority, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    client = ours.issue("client", client=True)
    pair = authority.issue("one")
    mount.put(pair, ca=ours.ca_file)
    async with serving(mount.settings(client_ca_file=mount.folder / "ca.crt"), authority) as served:
        context = served.context(client)

        def handshake(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            plain = socket.create_connection(("127.0.0.1", served.port), timeout=10)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if not tls.recv(64).startswith(b"HTTP/1.1 200"):
                    raise ConnectionError("closed")
                return tls.session, tls.session_reused

        session, _ = await asyncio.to_thread(handshake, None)
        mount.put(pair, ca=others.ca_file)
        assert served.certificates.refresh()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(handshake, session)
        # There sessions cannot be turned off, so it is refused unless it is asked for.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(handshake, None)


@pytest.mark.parametrize(("minimum", "taken"), [("1.2", True), ("1.3", False)])
@on_uvloop
async def test_old_versions_are_refused(mount: Mount, authority: Authority, minimum: str, taken: bool) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(min_version=minimum), authority) as served:
        context = served.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        opening = asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="localhost")
        if taken:
            _, writer = await opening
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
            writer.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await opening


@on_uvloop
async def test_who_never_finishes_the_handshake_is_cut_off(mount: Mount, authority: Authority) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(), authority, handshake=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert await served.names() == "one"


@on_uvloop
async def test_plain_http_on_a_tls_port_harms_nobody(mount: Mount, authority: Authority) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(), authority) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).startswith(b"HTTP")
        writer.close()
        assert await served.names() == "one"


@on_uvloop
async def test_web_sockets_over_tls(mount: Mount, authority: Authority) -> None:
    mount.put(authority.issue("one"))
    async with serving(mount.settings(), authority) as served:
        address = f"wss://localhost:{served.port}/ws"
        async with websockets.connect(address, ssl=served.context(), host="127.0.0.1") as connection:
            assert await connection.recv() == "wss"


@pytest.mark.parametrize("which", ["cert_file", "key_file", "client_ca_file"])
def test_a_process_does_not_start_with_files_it_cannot_use(mount: Mount, authority: Authority, which: str) -> None:
    mount.put(authority.issue("one"), ca=authority.ca_file)
    wrong = mount.folder / "wrong.pem"
    wrong.write_text("nonsense\n")
    values = {"client_ca_file": mount.folder / "ca.crt", which: wrong}
    with pytest.raises(StartupError, match=r"wrong\.pem"):
        Certificates(mount.settings(**values))
    wrong.unlink()
    with pytest.raises(StartupError, match=r"wrong\.pem: No such file"):
        Certificates(mount.settings(**values))
