"""The client against a whole platform whose collector is killed."""

import json
import logging
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

from logstream.client import LogStreamHandler

pytestmark = pytest.mark.engine


def test_a_killed_collector_loses_and_doubles_nothing(tmp_path: Path) -> None:
    up = Up(tmp_path)
    try:
        up.ready()
        login = json.loads((up.data / "first-login.json").read_text())
        handler = LogStreamHandler(
            url=login["ingest_url"], api_key=login["api_key"], service="shop", batch_records=50, flush_seconds=0.01,
            on_problem=lambda _: None,
        )  # fmt: skip
        log = logging.Logger("cart")
        log.addHandler(handler)
        for number in range(3000):
            log.warning("line %d", number)
            if number == 1500:
                eventually(lambda: handler.client.stats().accepted > 0, "some are sent")
                up.kill_child("app")
        assert handler.client.flush(60)
        handler.close()
        stats = handler.client.stats()
        # Whether a request was broken off is luck: between two the listening socket just waits for the next process.
        assert (stats.given, stats.accepted) == (3000, 3000)

        up.wait_until_it_answers()
        cli = Cli(tmp_path / "home")
        cli("login", "--file", str(up.data / "first-login.json"))

        def found() -> list[str]:
            rows = cli.rows("search", "--service", "shop", "--limit", "10000")
            return sorted(row["message"] for row in rows)

        expected = sorted(f"line {number}" for number in range(3000))
        eventually(lambda: len(found()) >= len(expected), "all are stored")
        assert found() == expected
    finally:
        up.stop()
