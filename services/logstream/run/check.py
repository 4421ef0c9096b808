"""`--check-connections`: whether what a process needs can be reached. Nothing is made or changed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy.engine import make_url

from logstream.auth.postgres import PostgresAddress
from logstream.clock import SystemClock
from logstream.errors import LogStreamError, Unavailable
from logstream.run.dependencies import open_bus
from logstream.run.settings import ProcessSettings
from logstream.settings import AuthSettings, StoreSettings
from logstream.storage.store import Store

_SECONDS = 10.0


def check(settings: ProcessSettings) -> dict[str, str]:
    """What could not be reached, by its name in /readyz, and why."""
    # Clients say the same again and again while they try.
    logging.getLogger().addHandler(logging.NullHandler())
    return asyncio.run(_check(settings))


async def _check(settings: ProcessSettings) -> dict[str, str]:
    checks: dict[str, Callable[[], Awaitable[None]]] = {"log": lambda: _log(settings)}
    store, auth = getattr(settings, "store", None), getattr(settings, "auth", None)
    if isinstance(store, StoreSettings):
        checks["store"] = lambda: _store(store)
    if isinstance(auth, AuthSettings):
        checks["accounts"] = lambda: _accounts(auth)
    said = await asyncio.gather(*(_said(one) for one in checks.values()))
    return {name: reason for name, reason in zip(checks, said, strict=True) if reason is not None}


async def _said(one: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(_SECONDS):
            await one()
    except LogStreamError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {_SECONDS:g} s"
    return None


async def _log(settings: ProcessSettings) -> None:
    if settings.run.bus == "sqlite":
        if not await asyncio.to_thread(settings.bus.path.is_dir):
            raise Unavailable(f"there is no folder {settings.bus.path} yet; it is made by the first start")
        return
    bus = await open_bus(settings, SystemClock())
    try:
        await bus.check()
    finally:
        await bus.close()


async def _store(settings: StoreSettings) -> None:
    store = await Store.connect(settings)
    try:
        await store.check()
    finally:
        await store.close()


async def _accounts(settings: AuthSettings) -> None:
    url = make_url(settings.url)
    if url.get_backend_name() == "sqlite":
        if not await asyncio.to_thread(Path(url.database or "").is_file):
            raise Unavailable(f"there is no file {url.database} yet; it is made by the first start")
        return
    import asyncpg

    try:
        connection = await PostgresAddress.of(url, settings.password.get_secret_value()).connect()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"{url.host or 'localhost'}/{url.database or ''}: {error}") from error
    await connection.close()
