"""The client for programs against a real collector: nothing lost, nothing doubled, nothing in the program's way."""

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.ingest import Ingest, ingest
from tests.support.proxy import Proxy, proxy

from logstream.auth.principal import Quota
from logstream.client import Client, LogStreamHandler
from logstream.record import Level
from logstream.settings import IngestLimits


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Ingest]:
    async with ingest(tmp_path) as running:
        yield running


@pytest.fixture
async def link() -> AsyncIterator[Proxy]:
    async with proxy() as running:
        yield running


def url(world: Ingest) -> str:
    return f"http://127.0.0.1:{world.port}"


def logger(handler: logging.Handler) -> logging.Logger:
    """A logger of its own, not in the tree of all."""
    made = logging.Logger("shop.cart", logging.DEBUG)
    made.addHandler(handler)
    return made


async def until(check: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.01)
    assert check(), what


def rest(client: Client) -> int:
    """Given but for what became of it: 0 when the counts add up."""
    s = client.stats()
    return s.given - s.accepted - s.rejected - s.uncertain - s.dropped - s.pending


async def test_a_record_of_logging(world: Ingest) -> None:
    handler = LogStreamHandler(url=url(world), api_key=world.key, service="shop", metadata={"region": "eu"})
    log = logger(handler)
    log.warning("cart %s is %d", "c1", 3, extra={"user": {"id": 7}, "trace_id": "4bf92f", "span_id": "00f0"})
    try:
        raise ValueError("no stock")
    except ValueError:
        log.exception("cannot order")
    await asyncio.to_thread(handler.close)
    first, second = await world.records()
    assert (first.service, first.level, first.message) == ("shop", Level.WARN, "cart c1 is 3")
    assert (first.trace_id, first.span_id) == ("4bf92f", "00f0")
    source = first.metadata.pop("source")
    assert source.startswith("test_client.py:")
    assert first.metadata == {"region": "eu", "logger": "shop.cart", "user.id": "7"}
    assert (second.level, second.message) == (Level.ERROR, "cannot order")
    assert second.metadata["exception.type"] == "ValueError"
    assert second.metadata["exception.message"] == "no stock"
    assert 'raise ValueError("no stock")' in second.metadata["exception.stacktrace"]


async def test_batches_are_compressed_and_whole(world: Ingest) -> None:
    with Client(url(world), world.key, batch_records=500, flush_seconds=60) as client:
        for number in range(2000):
            client.send(f"line {number}")
        await until(lambda: client.stats().accepted == 2000, "full batches go without a flush")
    messages = await world.messages()
    assert [len(records) for _, records in messages] == [500] * 4
    assert [r.message for _, records in messages for r in records] == [f"line {n}" for n in range(2000)]
    assert all(header.idempotency_key for header, _ in messages)


async def test_a_batch_goes_after_its_time(world: Ingest) -> None:
    with Client(url(world), world.key, flush_seconds=0.05) as client:
        client.send("alone")
        await until(lambda: client.stats().accepted == 1, "sent by time")


async def test_lost_answers_double_nothing(world: Ingest, link: Proxy) -> None:
    link.upstream, link.lose = world.port, 3
    client = Client(link.url, world.key, batch_records=100, on_problem=lambda _: None)
    for number in range(1000):
        client.send(f"line {number}")
    assert await asyncio.to_thread(client.close, 30)
    assert link.lost == 3
    assert client.stats().accepted == 1000
    assert client.stats().retries >= 3
    assert sorted(r.message for r in await world.records()) == sorted(f"line {n}" for n in range(1000))


async def test_a_restart_loses_nothing(tmp_path: Path, link: Proxy) -> None:
    said: list[str] = []
    async with ingest(tmp_path) as before:
        link.upstream = before.port
        client = Client(link.url, before.key, batch_records=50, flush_seconds=0.01, on_problem=said.append)
        for number in range(500):
            client.send(f"line {number}")
        await until(lambda: client.stats().accepted > 0, "some are sent before")
    link.upstream = None
    for number in range(500, 1000):
        client.send(f"line {number}")
    await until(lambda: bool(said), "that it is away is said")
    async with ingest(tmp_path) as after:
        link.upstream = after.port
        assert await asyncio.to_thread(client.flush, 30)
        await asyncio.to_thread(client.close)
        assert sorted(r.message for r in await after.records()) == sorted(f"line {n}" for n in range(1000))
    assert client.stats().accepted == 1000
    assert client.stats().dropped == 0
    assert len(said) == 1
    assert "cannot reach the collector" in said[0]


async def test_away_costs_bounded_memory_and_is_reported_later(world: Ingest, link: Proxy) -> None:
    said: list[str] = []
    limit = 64 * 1024
    client = Client(link.url, world.key, buffer_bytes=limit, batch_bytes=8 * 1024, on_problem=said.append)
    for number in range(20_000):
        client.send(f"line {number}")
    stats = client.stats()
    assert stats.dropped > 10_000
    assert stats.pending * 100 < limit
    link.upstream = world.port
    assert await asyncio.to_thread(client.flush, 30)
    await asyncio.to_thread(client.close)
    stats = client.stats()
    messages = [r.message for r in await world.records()]
    assert f"line {19_999}" in messages, "the newest are kept"
    reports = [r for r in await world.records() if "dropped" in r.metadata]
    assert sum(int(r.metadata["dropped"]) for r in reports) == stats.dropped
    assert stats.accepted == 20_000 + len(reports) - stats.dropped
    assert (stats.pending, rest(client)) == (0, 0)


async def test_a_bad_key_is_said_once_and_loses_nothing(world: Ingest) -> None:
    said: list[str] = []
    client = Client(url(world), "ls_wrong", flush_seconds=0.01, on_problem=said.append)
    client.send("a")
    await until(lambda: bool(said), "said")
    assert not await asyncio.to_thread(client.flush, 1.5), "tried again, in vain"
    assert client.stats().pending == 1
    assert client.stats().retries >= 1
    assert len(said) == 1
    assert "LOGSTREAM_API_KEY" in said[0]
    assert "ls_wrong" not in said[0]
    assert not await asyncio.to_thread(client.close, 5)
    assert (client.stats().dropped, client.stats().pending) == (1, 0)
    assert len(said) == 2
    assert said[1].startswith("1 records were not sent")


async def test_rejected_records_are_counted_and_said(world: Ingest) -> None:
    said: list[str] = []
    client = Client(url(world), world.key, flush_seconds=60, on_problem=said.append)
    client.send("good")
    client.send("far", timestamp=4_000_000_000 * 10**9)
    client.send("also good")
    assert await asyncio.to_thread(client.flush)
    assert (client.stats().accepted, client.stats().rejected) == (2, 1)
    assert "rejected 1 records" in said[0]
    assert "timestamp" in said[0]
    client.send("far", timestamp=4_000_000_000 * 10**9)
    assert await asyncio.to_thread(client.flush)
    assert (client.stats().accepted, client.stats().rejected) == (2, 2)
    assert len(said) == 1
    await asyncio.to_thread(client.close)
    assert rest(client) == 0


async def test_a_batch_too_large_for_the_collector_is_split(tmp_path: Path) -> None:
    async with ingest(tmp_path, limits=IngestLimits(max_records=100)) as world:
        client = Client(url(world), world.key, flush_seconds=60)
        for number in range(1000):
            client.send(f"line {number}")
        assert await asyncio.to_thread(client.close, 30)
        assert client.stats().accepted == 1000
        assert [r.message for r in await world.records()] == [f"line {n}" for n in range(1000)]


async def test_quota_is_waited_for(world: Ingest) -> None:
    key, _ = await world.create_key(quota=Quota(records_per_second=200))
    await world.gate.refresh()
    client = Client(url(world), key, batch_records=200, flush_seconds=60, on_problem=lambda _: None)
    for number in range(800):
        client.send(f"line {number}")
    assert await asyncio.to_thread(client.close, 30)
    assert client.stats().accepted == 800
    assert client.stats().retries > 0
    assert len(await world.records()) == 800


async def test_httpx_does_not_log_into_what_it_sends(world: Ingest) -> None:
    handler = LogStreamHandler(url=url(world), api_key=world.key, flush_seconds=0.01)
    noisy = [logging.getLogger("httpx"), logging.getLogger("httpcore")]
    for log in noisy:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    try:
        noisy[0].info("of the program itself")
        assert await asyncio.to_thread(handler.client.flush)
        await asyncio.sleep(0.1)
        assert await asyncio.to_thread(handler.client.flush)
    finally:
        for log in noisy:
            log.removeHandler(handler)
            log.setLevel(logging.NOTSET)
        await asyncio.to_thread(handler.close)
    assert [r.message for r in await world.records()] == ["of the program itself"]


async def test_a_child_sends_its_own_and_not_the_parents(world: Ingest) -> None:
    script = """
        import os, sys, warnings
        from logstream.client import Client
        warnings.simplefilter("ignore", DeprecationWarning)
        client = Client(flush_seconds=60, service="parent")
        client.send("before", metadata={"of": "parent"})
        child = os.fork()
        client.send("after", metadata={"of": "child" if child == 0 else "parent"})
        if child == 0:
            assert client.stats().given == 1
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    done = await run(script, world)
    assert (done.returncode, done.stderr) == (0, "")
    found = sorted((r.message, r.metadata["of"]) for r in await world.records())
    assert found == [("after", "child"), ("after", "parent"), ("before", "parent")]


async def test_forks_amid_sending(world: Ingest) -> None:
    script = """
        import logging, os, sys, threading, warnings
        from logstream.client import LogStreamHandler
        warnings.simplefilter("ignore", DeprecationWarning)
        handler = LogStreamHandler(flush_seconds=0.001, batch_records=100, exit_seconds=30)
        logging.basicConfig(level="INFO", handlers=[handler])
        def chatter():
            for number in range(2000):
                logging.info("parent %d", number)
        threads = [threading.Thread(target=chatter) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(10):
            child = os.fork()
            if child == 0:
                logging.info("child %d", number)
                logging.shutdown()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        for thread in threads:
            thread.join()
    """
    done = await run(script, world)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"child {n}" for n in range(10)] + [f"parent {n}" for n in range(2000)] * 2
    assert sorted(r.message for r in await world.records()) == sorted(expected)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
async def test_processes_of_multiprocessing_flush_at_their_end(world: Ingest, method: str, tmp_path: Path) -> None:
    script = f"""
        import logging, multiprocessing
        from logstream.client import LogStreamHandler
        logging.basicConfig(level="INFO", handlers=[LogStreamHandler(flush_seconds=60)])
        def work(number):
            logging.info("work %d", number)
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            started = [context.Process(target=work, args=(n,)) for n in range(3)]
            for process in started:
                process.start()
            for process in started:
                process.join()
                assert process.exitcode == 0
    """
    done = await run(script, world, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(r.message for r in await world.records()) == ["work 0", "work 1", "work 2"]


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError('crash')", 1)],
    ids=["end", "exit", "exception"],
)
async def test_what_is_left_goes_at_the_end(world: Ingest, end: str, status: int) -> None:
    script = f"""
        import atexit, logging, sys
        def last():
            logging.info("in an exit function")
        atexit.register(last)
        from logstream.client import LogStreamHandler
        logging.basicConfig(level="INFO", handlers=[LogStreamHandler(flush_seconds=60)])
        for number in range(100):
            logging.info("line %d", number)
        {end}
    """
    done = await run(script, world)
    assert done.returncode == status
    assert "logstream" not in done.stderr
    assert len(await world.records()) == 101


async def test_first_record_when_the_program_ends(world: Ingest) -> None:
    # From Python 3.12 on no thread can be started any more: it is sent without one.
    script = """
        import atexit, logging
        from logstream.client import LogStreamHandler
        logging.basicConfig(level="INFO", handlers=[LogStreamHandler()])
        atexit.register(logging.info, "last and only")
    """
    done = await run(script, world)
    assert (done.returncode, done.stderr) == (0, "")
    assert [r.message for r in await world.records()] == ["last and only"]


@pytest.mark.parametrize(
    "send",
    [
        "Client({}, exit_seconds=1.5).send('never')",
        "logging.basicConfig(handlers=[LogStreamHandler(url={}, exit_seconds=1.5)]); logging.error('never')",
    ],
    ids=["client", "handler"],
)
async def test_the_end_does_not_wait_for_what_is_away(world: Ingest, link: Proxy, send: str) -> None:
    # Nobody listens on the proxy's upstream: every connection is closed.
    script = f"""
        import logging
        from logstream.client import Client, LogStreamHandler
        {send.format(repr(link.url))}
    """
    done = await run(script, world)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("logstream.client: cannot reach the collector at")
    assert lines[1].startswith("logstream.client: 1 records were not sent: cannot reach")


async def run(script: str, world: Ingest, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program that finds collector and key in its environment."""
    environment: dict[str, Any] = {**os.environ, "LOGSTREAM_INGEST_URL": url(world), "LOGSTREAM_API_KEY": world.key}
    text = textwrap.dedent(script)
    if folder is None:
        command = [sys.executable, "-c", text]
    else:
        (folder / "program.py").write_text(text)
        command = [sys.executable, str(folder / "program.py")]
    return await asyncio.to_thread(
        subprocess.run, command, check=False, env=environment, capture_output=True, text=True, timeout=60
    )
