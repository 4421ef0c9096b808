"""`logstream collector`: from HTTP into the log."""

import asyncio

from logstream import collector
from logstream.auth.exchange import SharedQuotas
from logstream.auth.quota import QuotaLimiter
from logstream.clock import SystemClock
from logstream.run import dependencies
from logstream.run.lifecycle import freeze
from logstream.run.process import Process
from logstream.run.settings import CollectorProcess


async def main(settings: CollectorProcess) -> None:
    """Until a signal. Raises StartupError, and whatever ends the process."""
    clock = SystemClock()
    process = Process(settings.run, "log", "accounts")
    front = process.listen(
        settings.collector.host, settings.collector.port, settings.tls,
        header_timeout=settings.collector.limits.header_timeout_seconds,
    )  # fmt: skip
    stop = process.lifecycle.stop

    async def work() -> None:
        async with process.closing() as stack:
            bus = await dependencies.open_log(settings, clock, process.readiness, stop)
            stack.push_async_callback(bus.close)
            accounts = await dependencies.open_accounts(settings.auth, clock, process.readiness, stop)
            stack.push_async_callback(accounts.close)
            gate = await dependencies.open_gate(accounts, process.readiness, stop)
            if settings.run.bus == "sqlite" and settings.run.create_missing:
                # Elsewhere the processor does; here nobody else has the folder while this process runs.
                for stream in gate.current():
                    await bus.create_topic(stream.topic)
                    await bus.create_topic(stream.dead_letter_topic)
            quota = QuotaLimiter(clock)
            shared = SharedQuotas(accounts.database, quota, clock)
            freeze()
            ended = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(gate.run(ended))
                tasks.create_task(shared.run(ended))
                try:
                    await collector.serve(
                        settings.collector, sock=front.attach, bus=bus, gate=gate, quota=quota,
                        clock=clock, stop=stop,
                    )  # fmt: skip
                finally:
                    ended.set()

    await process.run(work)
