"""Patterns are learnt one report at a time, by whatever route, since nothing interrupts a thread."""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.support.api import running_api
from tests.support.engine import EngineProcess

from logstream.api import server
from logstream.api.services import Services
from logstream.auth.accounts import Accounts
from logstream.query import pattern_report
from logstream.query.language import patterned
from logstream.query.patterns import Pattern, Seen, summarise
from logstream.query.time import format_time
from logstream.record import Level, Record

pytestmark = pytest.mark.engine

BASE = 1_700_000_040 * 10**9
RANGE = {"start_time": format_time(BASE), "end_time": format_time(BASE + 60 * 10**9)}


class Learning(ThreadPoolExecutor):
    """Counts what it is given to do."""

    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.submitted += 1
        return super().submit(*args, **kwargs)


async def test_a_second_report_waits_for_the_first(
    tmp_path: Path, engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    first, go = threading.Event(), threading.Event()

    def slow(shapes: Mapping[str, Seen], before: Mapping[str, Seen] | None = None) -> list[Pattern]:
        began.append(threading.current_thread().name)
        first.set()
        assert go.wait(30)
        return summarise(shapes, before)

    create = server.create_app
    learning: list[Learning] = []

    def seen(services: Services, accounts: Accounts) -> FastAPI:
        services.learning = made = Learning(services.learning._max_workers, "learning")
        learning.append(made)
        return create(services, accounts)

    monkeypatch.setattr(server, "create_app", seen)
    monkeypatch.setattr(patterned, "summarise", slow)
    monkeypatch.setattr(pattern_report, "summarise", slow)
    asked: list[dict[str, Any]] = [{"query": "* | patterns"}] * 2
    async with running_api(tmp_path, engine.url) as api:
        await api.store_all([Record(BASE, "a", Level.INFO, "hello")])
        try:
            reads = [asyncio.create_task(api.get("/api/v1/query", **params, **RANGE)) for params in asked]
            reads.append(asyncio.create_task(api.get("/api/v1/patterns", **RANGE)))
            assert await asyncio.to_thread(first.wait, 30)
            async with asyncio.timeout(30):
                while learning[0].submitted < 3:
                    await asyncio.sleep(0.02)
            assert len(began) == 1
        finally:
            go.set()
        answers = await asyncio.gather(*reads)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(began) == 3
    assert len(set(began)) == 1
