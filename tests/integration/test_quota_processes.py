"""A quota that two real processes share through a real Postgres, and each half of it when Postgres is gone."""

import asyncio
import sys
import time
from typing import Any

from tests.support.postgres import Postgres

RATE = 100
BURST = 2 * RATE
MAX_DELAY = 3

CHILD = """
import asyncio, sys, time
from logstream.auth.accounts import Accounts
from logstream.auth.exchange import SharedQuotas
from logstream.auth.gate import Gate
from logstream.auth.principal import Principal, Quota, Scope
from logstream.auth.quota import QuotaLimiter
from logstream.clock import SystemClock
from logstream.errors import TooMany
from logstream.settings import AuthSettings

caller = Principal("key", "k", "k", frozenset({Scope.INGEST}), quota=Quota(RATE, None))

async def take(limiter, seconds):
    taken, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            # As much as there is: how often it is asked is the machine's business.
            while True:
                limiter.charge(caller, records=5, bytes_=0)
                taken += 5
        except TooMany:
            pass
        await asyncio.sleep(0.005)
    return taken

async def main():
    clock = SystemClock()
    accounts = await Accounts.open(AuthSettings(url=sys.argv[1]))
    gate = await Gate.open(accounts)
    limiter = QuotaLimiter(clock)
    shared = SharedQuotas(accounts.database, limiter, clock)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(gate.run(stop)), asyncio.create_task(shared.run(stop))]
    read = lambda: asyncio.to_thread(sys.stdin.readline)
    while shared.exchange.collectors < 2 or shared.exchange.away:
        await asyncio.sleep(0.01)
    print("> ready", flush=True)
    await read()
    print(">", await take(limiter, 6), flush=True)
    while not shared.exchange.away:
        await asyncio.sleep(0.01)
    print("> away", shared.exchange.collectors, flush=True)
    await read()
    print(">", await take(limiter, 3), flush=True)
    stop.set()
    await asyncio.gather(*tasks)
    await accounts.close()

asyncio.run(main())
""".replace("RATE", str(RATE))


async def test_two_processes_share_one_quota(own_postgres: Postgres) -> None:
    own_postgres.ensure_running()
    url = own_postgres.url()
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]

    async def lines() -> list[str]:
        async with asyncio.timeout(60):
            return [await _output(child) for child in children]

    async def go() -> float:
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            await child.stdin.drain()
        return time.monotonic()

    try:
        assert await lines() == ["ready", "ready"]
        began = await go()
        taken = sum(map(int, await lines()))
        seconds = time.monotonic() - began
        assert RATE * 5 <= taken <= RATE * seconds + 2 * BURST + RATE * MAX_DELAY
        await asyncio.to_thread(own_postgres.kill)
        assert await lines() == ["away 2", "away 2"]
        began = await go()
        taken = sum(map(int, await lines()))
        assert RATE * 2 <= taken <= RATE * (time.monotonic() - began) + BURST
        await asyncio.gather(*(_ended(child) for child in children))
    finally:
        for child in children:
            if child.returncode is None:
                child.kill()
                await child.wait()
        await asyncio.to_thread(own_postgres.ensure_running)


async def _output(child: Any) -> str:
    """The child's next line of its own; it logs to the same place."""
    while True:
        line = (await child.stdout.readline()).decode()
        assert line, "the process has ended"
        if line.startswith("> "):
            return line[2:].strip()


async def _ended(child: Any) -> None:
    async with asyncio.timeout(60):
        assert await child.wait() == 0
