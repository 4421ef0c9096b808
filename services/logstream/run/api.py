"""`logstream api`: search, tail and administration."""

import asyncio

from logstream import api, logs
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.roles import Role
from logstream.clock import SystemClock
from logstream.errors import Conflict, InvalidValue, StartupError
from logstream.run import dependencies
from logstream.run.lifecycle import freeze
from logstream.run.process import Process
from logstream.run.provision import Provisioner
from logstream.run.settings import ApiProcess, make_named
from logstream.storage.journal import StoreJournal
from logstream.storage.store import Store

_log = logs.get_logger("process")


async def main(settings: ApiProcess) -> None:
    """Until a signal. Raises StartupError, and whatever ends the process."""
    clock = SystemClock()
    process = Process(settings.run, "log", "accounts", "store", "schema")
    front = process.listen(settings.api.host, settings.api.port, settings.tls)
    stop = process.lifecycle.stop

    async def work() -> None:
        async with process.closing() as stack:
            store = await Store.connect(settings.store)
            stack.push_async_callback(store.close)
            process.readiness.reached("store", store.check)
            accounts = await dependencies.open_accounts(settings.auth, clock, process.readiness, stop)
            stack.push_async_callback(accounts.close)
            accounts.on_retention_change(store.set_retention)
            await dependencies.reached("accounts", lambda: _begin(settings, accounts), process.readiness, stop)
            gate = await dependencies.open_gate(accounts, process.readiness, stop)
            process.readiness.reached("schema", lambda: _check_schema(store, gate))
            bus = await dependencies.open_log(settings, clock, process.readiness, stop, journal=StoreJournal(store))
            stack.push_async_callback(bus.close)
            if settings.run.create_missing:
                Provisioner(bus, store, accounts).register(accounts)
            freeze()
            ended = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(gate.run(ended))
                try:
                    await api.serve(
                        settings.api, sock=front.attach, bus=bus, store=store, accounts=accounts, gate=gate,
                        clock=clock, stop=stop, idempotency_seconds=settings.idempotency_seconds,
                        letters=settings.letters,
                    )  # fmt: skip
                finally:
                    ended.set()

    await process.run(work)


async def _check_schema(store: Store, gate: Gate) -> None:
    await store.check(info.stream for info in gate.streams())


async def _begin(settings: ApiProcess, accounts: Accounts) -> None:
    """The streams and the admin that the settings name, made when they are not there.

    Raises Unavailable; StartupError when they cannot be made as they are named.
    """
    for entry in settings.streams():
        try:
            await accounts.ensure_stream(
                make_named(entry), retention_days=entry.retention_days, dead_letter_days=entry.dead_letter_days
            )
        except Conflict as error:
            raise StartupError(f"run.streams: {error.message}") from error
    email = settings.run.admin_email
    if not email or await accounts.users.list():
        return
    try:
        await accounts.users.create(email, settings.run.admin_password.get_secret_value(), role=Role.ADMIN)
    except Conflict:
        return  # Another API was quicker.
    except InvalidValue as error:
        raise StartupError(f"run.admin_email, run.admin_password: {error.message}") from error
    _log.info("first admin made", email=email)
