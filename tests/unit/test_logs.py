"""Our own logs hold no secrets, whoever reads them."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from logstream import logs


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def fail() -> None:
    password = "hunter2" * 2
    raise ValueError(f"a password of {len(password)} characters")


@pytest.mark.parametrize("as_json", [True, False])
def test_neither_fields_nor_tracebacks_show_secrets(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=as_json, process="test")
    log = structlog.get_logger("test")
    try:
        fail()
    except ValueError:
        log.exception("failed", ticket="lst_abc", password="hunter2hunter2", count=3)
    shown = capsys.readouterr().err
    assert "a password of 14 characters" in shown
    assert "***" in shown
    assert "hunter2" not in shown
    assert "lst_abc" not in shown
    if as_json:
        assert json.loads(shown)["count"] == 3
