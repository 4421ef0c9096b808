"""The client without a collector: what a record becomes, and that nothing it holds can hurt the program."""

import json
import logging
import logging.config
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.client import Client, LogStreamHandler
from logstream.client.encode import encode, flatten, text
from logstream.client.handler import level_name
from logstream.clock import SystemClock
from logstream.collector.decode.json_body import JsonDecoder
from logstream.record import parse_level
from logstream.settings import IngestLimits

NOW = SystemClock().now_ns()


class Kept(Client):
    """A client that keeps what it would send: its thread never starts."""

    def __init__(self, **options: Any) -> None:
        super().__init__("http://127.0.0.1:1", at_exit=False, **options)

    def _start(self) -> bool:
        return True

    def lines(self) -> list[dict[str, Any]]:
        """Everything that waits, as the records that would be sent."""
        found: list[dict[str, Any]] = []
        while self._buffer.pending:
            found += map(json.loads, self._buffer.take(0, lambda n: b'{"dropped":%d}' % n))
            self._buffer.done()
        return found


@pytest.fixture
def kept() -> Kept:
    return Kept(service="shop")


@pytest.fixture
def log(kept: Kept) -> logging.Logger:
    made = logging.Logger("cart", 1)
    made.addHandler(LogStreamHandler(kept))
    return made


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_values_become_text() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    values: list[tuple[Any, str]] = [
        ("a", "a"), (1, "1"), (True, "true"), (None, "null"), (0.1, "0.1"), (float("nan"), "nan"),
        ([1, "a"], '[1,"a"]'), ({}, "{}"), (2**70, str(2**70)), (cycle, "[[...]]"),
        (Hostile(), "<Hostile without a text>"), (b"\xff", "b'\\xff'"),
    ]  # fmt: skip
    assert [text(value) for value, _ in values] == [expected for _, expected in values]


def test_nested_names_have_dots_and_an_end() -> None:
    assert dict(flatten({"a": {"b": {"c": 1}, 2: "x"}, "e": {}})) == {"a.b.c": "1", "a.2": "x", "e": "{}"}
    cycle: dict[str, Any] = {}
    cycle["a"] = cycle
    assert [name for name, _ in flatten(cycle)] == ["a.a.a.a.a.a.a.a"]


WHOLE = st.text(st.characters(exclude_categories=["Cs"]))


@given(WHOLE, st.dictionaries(st.text(max_size=20), WHOLE, max_size=4), st.booleans())
def test_the_collector_takes_every_text(message: str, metadata: dict[str, str], surrogate: bool) -> None:
    if surrogate:
        message += "\ud83d"
    metadata = {name: value for name, value in metadata.items() if not name.startswith("logstream.")}
    line = encode(timestamp=NOW, service="s", level="warn", message=message, metadata=metadata, trace_id="t")
    decoded = JsonDecoder(IngestLimits()).decode(line, now=NOW)
    assert not decoded.rejections
    (record,) = decoded.batch
    assert record.message == message.replace("\ud83d", "\ufffd")
    assert (record.timestamp, record.service, record.trace_id) == (NOW, "s", "t")
    assert record.metadata == metadata


def test_levels() -> None:
    numbers = [1, 5, 10, 15, 20, 25, 30, 40, 45, 50, 99]
    names = [level_name(number) for number in numbers]
    assert names == ["trace", "trace", "debug", "debug", "info", "info", "warn", "error", "error", "fatal", "fatal"]
    assert all(parse_level(name) is not None for name in names)


def test_extra_fields(kept: Kept, log: logging.Logger) -> None:
    log.info("a", extra={"user": 1, "extra": {"bound": 2, "logger": "x"}, "otelTraceID": "0af7", "span_id": "0"})
    log.info("b", extra={"otelTraceID": "0", "trace_id": None})
    first, second = kept.lines()
    del first["metadata"]["source"], second["metadata"]["source"]
    assert first["metadata"] == {"logger": "cart", "user": "1", "bound": "2", "logger_2": "x"}
    assert first["trace_id"] == "0af7"
    assert "span_id" not in first
    assert second["metadata"] == {"logger": "cart"}
    assert "trace_id" not in second


def test_arguments_that_do_not_fit_keep_the_message(kept: Kept, log: logging.Logger) -> None:
    log.info("%d of %d", 1)  # noqa: PLE1206
    log.info("it is %s", Hostile())
    log.info(Hostile())
    assert [line["message"] for line in kept.lines()] == [
        "%d of %d [1]",
        "it is %s <tuple without a text>",
        "<Hostile without a text> []",
    ]


def test_an_exception_without_a_message(kept: Kept, log: logging.Logger) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    for error in (ValueError("bad"), Odd()):
        try:
            raise error
        except Exception:
            log.exception("")
    log.error("none", exc_info=True)
    bad, odd, none = kept.lines()
    assert bad["message"] == "ValueError: bad"
    assert odd["metadata"]["exception.type"].endswith("Odd")
    assert "exception.type" not in none["metadata"]


def test_a_formatter_makes_the_message(kept: Kept) -> None:
    log = logging.Logger("cart")
    handler = LogStreamHandler(kept)
    log.addHandler(handler)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    log.info("plain")
    handler.setFormatter(logging.Formatter("<%(message)s>"))
    log.info("formatted")
    assert [line["message"] for line in kept.lines()] == ["plain", "<formatted>"]


def test_a_value_that_logs_does_not_recurse_for_ever(kept: Kept, log: logging.Logger) -> None:
    class Chatty:
        def __str__(self) -> str:
            log.info("again %s", self)
            return "chatty"

    log.info("first %s", Chatty())
    messages = [line["message"] for line in kept.lines()]
    assert messages[-1] == "first chatty"
    assert 1 < len(messages) < 10


def test_drop_oldest_keeps_the_newest_and_reports() -> None:
    client = Kept(buffer_bytes=2000, batch_bytes=2000, when_full="drop_oldest")
    for number in range(100):
        client.send(f"{number}")
    stats = client.stats()
    assert stats.given == 100 == stats.dropped + stats.pending
    lines = client.lines()
    messages = [line["message"] for line in lines if "message" in line]
    assert messages == [str(n) for n in range(100 - len(messages), 100)]
    assert [line for line in lines if "message" not in line] == [{"dropped": 100 - len(messages)}]


def test_drop_newest_keeps_the_oldest() -> None:
    client = Kept(buffer_bytes=2000, batch_bytes=2000, when_full="drop_newest")
    for number in range(100):
        client.send(f"{number}")
    lines = client.lines()
    messages = [line["message"] for line in lines if "message" in line]
    assert messages == [str(n) for n in range(len(messages))]
    assert [line for line in lines if "message" not in line] == [{"dropped": 100 - len(messages)}]


def test_block_waits_for_room() -> None:
    client = Kept(buffer_bytes=2000, batch_bytes=2000, when_full="block", block_seconds=60)
    buffer = client._buffer

    def make_room() -> None:
        taken = 0
        while taken < 100:
            taken += len(buffer.take(0, lambda _: b""))
            buffer.done()

    thread = threading.Thread(target=make_room)
    thread.start()
    for number in range(100):
        client.send(f"{number}")
    thread.join()
    assert client.stats().dropped == 0


def test_a_full_buffer_is_not_lingered_over() -> None:
    # Every batch here would wait for a minute, were it not for the bytes.
    client = Kept(buffer_bytes=2000, batch_bytes=2000, when_full="drop_newest")
    number = 0
    while client._buffer._waiting_bytes < 1000:
        client.send(f"{number}")
        number += 1
    assert len(client._buffer.take(60, lambda _: b"")) >= number - 1
    assert client.stats().dropped == 0


def test_logging_configures_it_from_a_mapping() -> None:
    handler = {"class": "logstream.client.LogStreamHandler", "level": "INFO", "service": "shop", "when_full": "block"}
    logging.config.dictConfig(
        {
            "version": 1, "disable_existing_loggers": False,
            "handlers": {"logstream": handler}, "loggers": {"test.mapping": {"handlers": ["logstream"]}},
        }
    )  # fmt: skip
    (made,) = logging.getLogger("test.mapping").handlers
    assert isinstance(made, LogStreamHandler)
    assert made.level == logging.INFO
    logging.getLogger("test.mapping").removeHandler(made)
    made.close()


def test_block_gives_up_once_and_not_for_every_record() -> None:
    # Would take 100 seconds if each waited.
    client = Kept(buffer_bytes=2000, batch_bytes=2000, when_full="block", block_seconds=1)
    for number in range(110):
        client.send(f"{number}")
    assert client.stats().dropped > 50


def test_a_record_larger_than_the_buffer_is_dropped() -> None:
    client = Kept(buffer_bytes=2000, batch_bytes=2000)
    client.send("small")
    client.send("x" * 3000)
    assert (client.stats().pending, client.stats().dropped) == (1, 1)


def test_a_signal_amid_put_loses_nothing() -> None:
    client = Kept()
    buffer = client._buffer
    with buffer.lock:
        buffer._busy = True  # as when the handler of a signal logs while its own thread is within `put`
        client.send("nested")
        buffer._busy = False
    client.send("outer")
    assert [line["message"] for line in client.lines()] == ["outer", "nested"]


def test_nothing_is_taken_after_close() -> None:
    client = Kept()
    assert client.close()
    client.send("late")
    assert (client.stats().given, client.stats().dropped) == (1, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": "localhost:8080"}, "url"),
        ({"when_full": "explode"}, "when_full"),
        ({"batch_records": 0}, "batch_records"),
        ({"buffer_bytes": 10}, "buffer_bytes"),
        ({"api_key": "a\nb"}, "api_key"),
    ],
)
def test_settings_that_make_no_sense_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Client(**{"at_exit": False, **options})


def test_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_INGEST_URL", "https://logs.example:8443/")
    monkeypatch.setenv("LOGSTREAM_API_KEY", "ls_key\n")
    client = Client(at_exit=False)
    assert (client._url, client._api_key) == ("https://logs.example:8443", "ls_key")
    assert "ls_key" not in repr(client)


def test_importing_loads_no_http_client() -> None:
    program = "import sys, logstream.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert "httpx" not in loaded
    assert "asyncio" not in loaded
    ours = [name for name in loaded if name.startswith("logstream")]
    assert all(name == "logstream" or name.startswith("logstream.client") for name in ours), ours
