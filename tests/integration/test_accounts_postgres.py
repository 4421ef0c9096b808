"""Accounts on a real Postgres that is stopped, killed, frozen and started again; and two processes on one database."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from tests.support.postgres import Postgres

from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.keys import make_key
from logstream.auth.passwords import Passwords
from logstream.auth.principal import Scope
from logstream.clock import SystemClock
from logstream.errors import StartupError, Unauthenticated, Unavailable
from logstream.settings import AuthSettings


def unknown_key() -> str:
    return make_key().text


async def opened(url: str, **settings: Any) -> Accounts:
    """settings: also what AuthSettings would refuse."""
    changed = AuthSettings(url=url).model_copy(update=settings)
    return await Accounts.open(changed, SystemClock(), passwords=Passwords(memory_kib=8, passes=1))


@asynccontextmanager
async def running(url: str, **settings: Any) -> AsyncIterator[tuple[Accounts, Gate]]:
    """A process's accounts with a gate that looks and listens."""
    accounts = await opened(url, **settings)
    gate = await Gate.open(accounts)
    stop = asyncio.Event()
    task = asyncio.create_task(gate.run(stop))
    try:
        yield accounts, gate
    finally:
        stop.set()
        await task
        await accounts.close()


async def until(true: Callable[..., bool], what: str, seconds: float = 60) -> float:
    """How long it took until `true()`."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, what
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def refused(gate: Gate, credential: str) -> str:
    try:
        gate.authenticate(credential)
    except Unauthenticated:
        return "401"
    except Unavailable:
        return "503"
    return ""


def listens(accounts: Accounts) -> bool:
    return accounts.database.signals is not None and accounts.database.signals.connected


async def test_a_revoked_key_stops_everywhere_by_word_and_not_by_looking(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = own_postgres.url()
    # The gate looks again long after the test has given up: only a message can be in time.
    async with running(url, refresh_seconds=3600) as (accounts, gate), running(url) as (other, _):
        await until(lambda: listens(accounts), "listening")
        for _ in range(5):
            made = await other.create_key("app", scopes=[Scope.INGEST])
            await until(lambda key=made.text: not refused(gate, key), "a new key")
            await other.keys.revoke(made.key.id)
            await until(lambda key=made.text: refused(gate, key) == "401", "a revoked key")


async def test_without_word_polling_finds_it(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = own_postgres.url()
    async with running(url, refresh_seconds=0.2) as (accounts, gate):
        signals = accounts.database.signals
        assert signals is not None
        await until(lambda: listens(accounts), "listening")
        for listeners in signals._listeners.values():
            listeners.clear()
        other = await opened(url)
        made = await other.create_key("app", scopes=[Scope.INGEST])
        await until(lambda: not refused(gate, made.text), "found by looking")
        await other.close()


async def test_killed_and_started_again(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    async with running(own_postgres.url()) as (accounts, gate):
        made = await accounts.create_key("app", scopes=[Scope.INGEST])
        await until(lambda: listens(accounts), "listening")
        await asyncio.to_thread(own_postgres.kill)
        await until(lambda: gate.away, "noticed")
        assert refused(gate, made.text) == ""
        assert refused(gate, unknown_key()) == "503"
        with pytest.raises(Unavailable):
            await accounts.create_key("more", scopes=[Scope.INGEST])
        await asyncio.to_thread(own_postgres.ensure_running)
        await until(lambda: not gate.away and listens(accounts), "back")
        assert refused(gate, unknown_key()) == "401"
        await accounts.keys.revoke(made.key.id)
        assert refused(gate, made.text) == "401"


async def test_frozen_and_thawed(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    async with running(own_postgres.url()) as (accounts, gate):
        made = await accounts.create_key("app", scopes=[Scope.INGEST])
        await until(lambda: listens(accounts), "listening")
        await asyncio.to_thread(own_postgres.pause)
        try:
            strange = unknown_key()
            await until(lambda: refused(gate, strange) == "503", "noticed")
            assert refused(gate, made.text) == ""
            await until(lambda: gate.away and not listens(accounts), "given up")
            # Whoever waits for it gets an answer in bounded time, and again, with nothing used up.
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await accounts.keys.get(made.key.id)
                assert time.monotonic() - began < 30
        finally:
            await asyncio.to_thread(own_postgres.resume)
        await until(lambda: not gate.away and listens(accounts), "back")
        await accounts.keys.revoke(made.key.id)
        assert refused(gate, made.text) == "401"


class Wire:
    """A way to Postgres. hang: what is connected now hears nothing any more, without being told."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._hanging: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def hang(self) -> None:
        self._hanging |= self._tasks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        both = [asyncio.create_task(self._copy(reader, up_writer)), asyncio.create_task(self._copy(up_reader, writer))]
        self._tasks.update(both)
        await asyncio.wait(both)
        self._tasks.difference_update(both)
        for end in (writer, up_writer):
            end.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if asyncio.current_task() in self._hanging:
                    continue
                writer.write(data)
                await writer.drain()
            if asyncio.current_task() not in self._hanging:
                writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[tuple[Wire, str]]:
    """A way to `url`, and its address."""
    parsed = make_url(url)
    assert parsed.port is not None
    made = Wire(parsed.port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made, parsed.set(host="127.0.0.1", port=made.port).render_as_string(hide_password=False)
    finally:
        server.close()
        await made.close()


async def test_connections_that_hang_are_made_anew(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = own_postgres.url()
    other = await opened(url)
    async with wire(url) as (way, through), running(through) as (accounts, gate):
        made = await other.create_key("app", scopes=[Scope.INGEST])
        await until(lambda: listens(accounts) and not refused(gate, made.text), "listening")
        way.hang()
        await other.keys.revoke(made.key.id)
        await until(lambda: refused(gate, made.text) == "401", "heard of all the same")
        await until(lambda: not gate.away and listens(accounts), "back")
    await other.close()


async def test_wrong_credentials_are_told_without_the_password(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = make_url(own_postgres.url())
    for wrong, said in (
        (url.set(password="hunter2hunter2"), "refuses us: password authentication failed"),
        (url.set(username="nobody", password="hunter2hunter2"), "refuses us"),
        (url.set(database="nosuch", password=url.password), "refuses us: database"),
    ):
        with pytest.raises(StartupError, match=said) as refused_:
            await opened(wrong.render_as_string(hide_password=False), connect_seconds=60)
        assert "hunter2" not in refused_.value.message
        assert str(url.password) not in refused_.value.message
        assert "LOGSTREAM_AUTH_PASSWORD" in refused_.value.message
    # The password of the settings goes before the one in the address.
    bad = url.set(password="hunter2hunter2").render_as_string(hide_password=False)
    assert "hunter2" not in repr(AuthSettings(url=bad, password=SecretStr("hunter2")))
    await (await opened(bad, password=SecretStr(str(url.password)))).close()


async def test_a_postgres_that_is_not_there_is_waited_for(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = own_postgres.url()
    await asyncio.to_thread(own_postgres.stop)
    try:
        with pytest.raises(StartupError, match="cannot be opened"):
            await opened(url, connect_seconds=0)
        opening = asyncio.create_task(opened(url, connect_seconds=60))
        await asyncio.sleep(0.5)
        assert not opening.done()
    finally:
        await asyncio.to_thread(own_postgres.ensure_running)
    await (await opening).close()


async def test_a_stopped_writer_lets_go_of_the_lock(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    accounts = await opened(own_postgres.url())
    address = accounts.database.signals
    assert address is not None
    holder = await address._connect()
    await holder.execute("BEGIN")
    await holder.execute("UPDATE auth_state SET revision = revision + 1")
    with pytest.raises(Unavailable, match="lock timeout"):
        await accounts.create_key("app", scopes=[Scope.INGEST])
    async with asyncio.timeout(60):
        while True:
            try:
                await accounts.create_key("app", scopes=[Scope.INGEST])
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    holder.terminate()
    await accounts.close()
