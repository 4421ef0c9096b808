"""https and credentials: who is trusted, who is let in, and that no password is ever shown."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from tests.support.certificates import Authority
from tests.support.engine import EngineProcess
from tests.support.proxy import Proxy, proxy

from logstream.errors import InvalidValue, StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.store import Store

pytestmark = pytest.mark.engine

PASSWORD = "c0rrect-horse"
WRONG = "wr0ng-horse"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that asks for a password."""
    process = EngineProcess(tmp_path_factory.mktemp("locked") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGSTREAM_ENGINE_PASSWORD", PASSWORD)
        process.start()
    try:
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def context(authority: Authority, *, clients: bool = False) -> ssl.SSLContext:
    """Of a server; clients: only those whom the authority knows are let in."""
    server = authority.issue("server")
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(server.cert_file, server.key_file)
    if clients:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(authority.ca_file)
    return made


@pytest.fixture
async def tls(authority: Authority, engine: EngineProcess) -> AsyncIterator[Proxy]:
    async with proxy(context(authority)) as before:
        before.upstream = int(engine.url.rpartition(":")[2])
        yield before


async def ask(settings: StoreSettings) -> None:
    store = await Store.connect(settings)
    try:
        assert (await store.query("SELECT 1")).rows == [(1,)]
        await store.check()
    finally:
        await store.close()


async def test_a_server_whose_certificate_is_known_is_asked(tls: Proxy, authority: Authority) -> None:
    assert tls.url.startswith("https://")
    await ask(StoreSettings(url=tls.url, ca_file=authority.ca_file))


async def test_a_server_that_nobody_vouches_for_is_not(tls: Proxy, tmp_path: Path) -> None:
    for ca_file in (None, Authority(tmp_path, "somebody else").ca_file):
        with pytest.raises(StoreUnavailable, match="LOGSTREAM_STORE_CA_FILE"):
            await ask(StoreSettings(url=tls.url, ca_file=ca_file))
    # Unless it is said in so many words.
    await ask(StoreSettings(url=tls.url, tls_insecure=True))


async def test_a_server_by_another_name_is_not(tls: Proxy, authority: Authority) -> None:
    await ask(StoreSettings(url=tls.url.replace("127.0.0.1", "localhost"), ca_file=authority.ca_file))
    # An address that the certificate does not hold.
    other = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0, ssl=context(authority))
    async with other:
        url = f"https://127.0.0.2:{other.sockets[0].getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await ask(StoreSettings(url=url, ca_file=authority.ca_file))


async def test_a_client_shows_its_certificate(authority: Authority, engine: EngineProcess) -> None:
    client = authority.issue("processor", client=True)
    async with proxy(context(authority, clients=True)) as before:
        before.upstream = int(engine.url.rpartition(":")[2])
        known = {"url": before.url, "ca_file": authority.ca_file}
        await ask(StoreSettings(**known, cert_file=client.cert_file, key_file=client.key_file))
        await ask(StoreSettings(**known, cert_file=client.both_file))
        with pytest.raises(StoreUnavailable):
            await ask(StoreSettings(**known))


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
async def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, field: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
    for path in (broken, tmp_path / "nowhere.pem"):
        with pytest.raises(InvalidValue, match=field) as refused:
            await Store.connect(StoreSettings(**{field: path}))
        assert refused.value.field == f"store.{field}"


async def test_the_right_password_lets_in(locked: EngineProcess) -> None:
    await ask(StoreSettings(url=locked.url, password=SecretStr(PASSWORD)))


async def test_a_wrong_password_is_a_clear_condition_that_is_not_hammered(locked: EngineProcess) -> None:
    settings = StoreSettings(url=locked.url, username="default", password=SecretStr(WRONG))
    async with proxy() as before:
        before.upstream = int(locked.url.rpartition(":")[2])
        store = await Store.connect(settings.model_copy(update={"url": before.url}))
        with capture_logs() as told:
            for _ in range(50):
                with pytest.raises(StoreUnavailable, match="refuses the credentials of user 'default'") as refused:
                    await store.query("SELECT 1")
                assert "LOGSTREAM_STORE_PASSWORD" in refused.value.message
                assert refused.value.retry_after >= 1
                with pytest.raises(StoreUnavailable, match="refuses"):
                    await store.append("d.t", ("a",), b"1")
                with pytest.raises(StoreUnavailable, match="refuses"):
                    await store.check()
        await store.close()
        assert before.connections <= 3
    assert [entry["event"] for entry in told] == ["replica_away"]
    assert WRONG not in f"{settings!r} {settings} {refused.value.body()} {told}"


async def test_a_password_that_is_mended_works_without_waiting_long(locked: EngineProcess) -> None:
    store = await Store.connect(StoreSettings(url=locked.url, password=SecretStr(WRONG)))
    with pytest.raises(StoreUnavailable):
        await store.query("SELECT 1")
    await store.close()
    await ask(StoreSettings(url=locked.url, password=SecretStr(PASSWORD)))
