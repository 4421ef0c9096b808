"""`logstream processor`: from the log into ClickHouse."""

import asyncio
from contextlib import AsyncExitStack

from logstream import processor
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.streams import StreamInfo
from logstream.clock import Clock, SystemClock
from logstream.errors import Unavailable
from logstream.processor import Deduplication, Health
from logstream.run import dependencies
from logstream.run.lifecycle import freeze
from logstream.run.process import Process
from logstream.run.processing import bounded
from logstream.run.provision import Provisioner
from logstream.run.readiness import Check
from logstream.run.settings import PROCESSOR_HEALTH_PORT, ProcessorProcess, make_named
from logstream.run.streams import Infos, PreparedStreams
from logstream.storage.journal import StoreJournal
from logstream.storage.store import Store
from logstream.stream import Stream


async def main(settings: ProcessorProcess) -> None:
    """Until a signal. Raises StartupError, and whatever ends the process."""
    clock = SystemClock()
    names = ["log", "store", "schema", "partitions"] + (["accounts"] if settings.auth is not None else [])
    process = Process(settings.run, *names, default_health_port=PROCESSOR_HEALTH_PORT)
    stop = process.lifecycle.stop

    async def work() -> None:
        async with process.closing() as stack:
            store = await Store.connect(settings.store)
            stack.push_async_callback(store.close)
            process.readiness.reached("store", store.check)
            journal = StoreJournal(store)
            bus = await dependencies.open_log(settings, clock, process.readiness, stop, journal=journal)
            stack.push_async_callback(bus.close)
            accounts, gate = await _accounts(settings, process, clock, stack)
            served: set[Stream] = set()
            provisioner = Provisioner(bus, store, accounts, served=served) if settings.run.create_missing else None
            if accounts is not None and provisioner is not None:
                provisioner.register(accounts)
            streams = PreparedStreams(_named(settings) if gate is None else gate.streams, store, provisioner)
            process.readiness.reached("schema", streams.check)
            health = Health()
            process.readiness.reached("partitions", partitions_check(health))
            freeze()
            ended = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                if gate is not None:
                    tasks.create_task(gate.run(ended))
                tasks.create_task(streams.run(stop))
                serving = processor.serve(
                    settings.processor, bus=bus, store=store, streams=streams, clock=clock, stop=stop, health=health,
                    deduplication=_deduplication(settings, journal), served=served,
                )  # fmt: skip
                try:
                    await bounded(serving, stop, settings.run.shutdown_seconds)
                finally:
                    ended.set()

    await process.run(work)


async def _accounts(
    settings: ProcessorProcess, process: Process, clock: Clock, stack: AsyncExitStack
) -> tuple[Accounts | None, Gate | None]:
    """The accounts, whose streams are followed; None where the settings name the streams. Raises Stopped."""
    if settings.auth is None:
        return None, None
    stop = process.lifecycle.stop
    accounts = await dependencies.open_accounts(settings.auth, clock, process.readiness, stop)
    stack.push_async_callback(accounts.close)
    return accounts, await dependencies.open_gate(accounts, process.readiness, stop)


def _named(settings: ProcessorProcess) -> Infos:
    named = [
        StreamInfo(make_named(entry), entry.retention_days, dead_letter_days=entry.dead_letter_days)
        for entry in settings.streams()
    ]
    return lambda: named


def _deduplication(settings: ProcessorProcess, journal: StoreJournal) -> Deduplication | None:
    """On Kafka the processor drops repeats; the embedded log does that itself."""
    if settings.run.bus != "kafka":
        return None
    return Deduplication(journal, settings.idempotency_seconds)


def partitions_check(health: Health) -> Check:
    """What keeps single partitions from going on."""

    async def check() -> None:
        if problems := health.problems():
            raise Unavailable("; ".join(problems[:5]))

    return check
