"""`logstream processor`: from the log into ClickHouse."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from logstream import processor
from logstream.auth.accounts import Accounts
from logstream.auth.streams import StreamInfo
from logstream.clock import Clock, SystemClock
from logstream.run import dependencies
from logstream.run.lifecycle import freeze
from logstream.run.process import Process
from logstream.run.processing import bounded
from logstream.run.settings import PROCESSOR_HEALTH_PORT, ProcessorProcess, make_named
from logstream.run.streams import Infos, PreparedStreams
from logstream.storage.journal import StoreJournal
from logstream.storage.store import Store


async def main(settings: ProcessorProcess) -> None:
    """Until a signal. Raises StartupError, and whatever ends the process."""
    clock = SystemClock()
    names = ["log", "store", "schema"] + (["accounts"] if settings.auth is not None else [])
    process = Process(settings.run, *names, default_health_port=PROCESSOR_HEALTH_PORT)
    stop = process.lifecycle.stop

    async def work() -> None:
        async with process.closing() as stack:
            store = await Store.connect(settings.store)
            stack.push_async_callback(store.close)
            process.readiness.reached("store", store.check)
            bus = await dependencies.open_log(settings, clock, process.readiness, stop, journal=StoreJournal(store))
            stack.push_async_callback(bus.close)
            async with asyncio.TaskGroup() as tasks:
                ended = asyncio.Event()
                accounts, infos = await _streams(settings, process, clock, stack, tasks, ended)
                streams = PreparedStreams(infos, bus, store, accounts=accounts, create=settings.run.create_missing)
                process.readiness.reached("schema", streams.check)
                tasks.create_task(streams.run(stop))
                freeze()
                serving = processor.serve(
                    settings.processor, bus=bus, store=store, streams=streams, clock=clock, stop=stop
                )
                try:
                    await bounded(serving, stop, settings.run.shutdown_seconds)
                finally:
                    ended.set()

    await process.run(work)


async def _streams(  # noqa: PLR0917
    settings: ProcessorProcess,
    process: Process,
    clock: Clock,
    stack: AsyncExitStack,
    tasks: asyncio.TaskGroup,
    ended: asyncio.Event,
) -> tuple[Accounts | None, Infos]:
    """Those of the accounts, followed until `ended`, or else those that the settings name."""
    if settings.auth is None:
        named = [StreamInfo(make_named(entry), entry.retention_days) for entry in settings.streams()]

        def listed() -> Sequence[StreamInfo]:
            return named

        return None, listed
    stop = process.lifecycle.stop
    accounts = await dependencies.open_accounts(settings.auth, clock, process.readiness, stop)
    stack.push_async_callback(accounts.close)
    gate = await dependencies.open_gate(accounts, process.readiness, stop)
    tasks.create_task(gate.run(ended))
    return accounts, gate.streams
