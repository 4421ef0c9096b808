"""A child that hangs is found out and replaced; one that is slow, or was never reached, is left alone."""

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.up import Cli, Up, eventually

from logstream.errors import StartupError
from logstream.standalone.pulse import HANG_SECONDS, VARIABLE, Pulse, hang_seconds, reachable


class Server:
    """Takes questions, and answers those it is told to. The kernel accepts for it even while it does nothing."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listening.getsockname()

    def answer(self, text: bytes = b"HTTP/1.0 503 Busy\r\n\r\n") -> bytes:
        connection, _ = self.listening.accept()
        with connection:
            question = connection.recv(1024)
            connection.sendall(text)
        return question


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.listening.close()


@pytest.fixture
def pulse(server: Server) -> Iterator[Pulse]:
    pulse = Pulse(server.address, "/ping", 60.0)
    yield pulse
    pulse.stop()


def settle(pulse: Pulse) -> None:
    """Wait until the answer that was sent can be read."""
    assert pulse._asked is not None
    select.select([pulse._asked], [], [], 10)


def beat(pulse: Pulse, server: Server) -> None:
    server.answer()
    settle(pulse)


def test_a_child_that_answers_does_not_hang(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    for now in range(0, 600, 10):
        assert not pulse.hung(now)
        assert server.answer().startswith(b"GET /ping HTTP/1.0\r\n")
        settle(pulse)


def test_silence_is_a_hang_after_its_time_only(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    assert not pulse.hung(0.0)
    beat(pulse, server)
    assert [pulse.hung(now) for now in (10, 20, 30, 40, 50, 60)] == [False] * 6
    assert pulse.hung(70)


def test_one_answer_is_enough_to_begin_again(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    assert not pulse.hung(0.0)
    beat(pulse, server)
    for now in (10, 20, 30, 40, 50, 60):
        assert not pulse.hung(now)
    for _ in range(6):
        server.answer()
    settle(pulse)
    assert [pulse.hung(now) for now in (70, 80, 90, 100, 110, 120)] == [False] * 6
    assert pulse.hung(130)


def test_a_supervisor_that_stood_still_blames_nobody(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    assert not pulse.hung(0.0)
    beat(pulse, server)
    assert not pulse.hung(10)
    assert not pulse.hung(10_000), "one question alone"


def test_who_never_answered_is_not_judged(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    assert not any(pulse.hung(now) for now in range(0, 600, 10))
    server.listening.close()
    assert not any(pulse.hung(now) for now in range(600, 1200, 10))


def test_who_answers_no_more_connections_hangs(pulse: Pulse, server: Server) -> None:
    pulse.begin(0.0)
    assert not pulse.hung(0.0)
    beat(pulse, server)
    server.listening.close()
    assert any(pulse.hung(now) for now in range(10, 90, 10))


def test_nobody_asks_before_begin_and_after_stop(pulse: Pulse, server: Server) -> None:
    assert (pulse.due, pulse.hung(1e9)) == (None, False)
    pulse.begin(0.0)
    pulse.stop()
    assert (pulse.due, pulse.hung(1e9)) == (None, False)
    server.listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.listening.accept()


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert hang_seconds() == HANG_SECONDS
    for text, expected in (("", HANG_SECONDS), ("0", None), ("1.5", 1.5)):
        monkeypatch.setenv(VARIABLE, text)
        assert hang_seconds() == expected
    for text in ("soon", "-1", "0.5", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(StartupError, match=VARIABLE):
            hang_seconds()
    assert [reachable(host) for host in ("0.0.0.0", "::", "::1", "10.0.0.1")] == [
        "127.0.0.1", "::1", "::1", "10.0.0.1",
    ]  # fmt: skip


@pytest.mark.engine
def test_a_stopped_child_is_replaced_and_nothing_acknowledged_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "6")
    up = Up(tmp_path)
    try:
        up.ready()
        cli = Cli(tmp_path / "home")
        cli("login", "--file", str(up.data / "first-login.json"))
        for name in ("engine", "app"):
            cli("send", f"before the {name} stopped", "--service", "demo")
            stopped = up.children()[name]
            os.kill(stopped, signal.SIGSTOP)
            eventually(
                lambda name=name, stopped=stopped: up.children().get(name, stopped) != stopped, f"another {name}"
            )
            up.wait_until_it_answers()
            assert f"the {name} hangs: it runs, but answered nothing for 6 s, and is killed" in up.err
            assert f"the {name} was killed by SIGKILL; restart 1 in" in up.err
        eventually(lambda: len(cli.rows("search", "stopped")) == 2, "both records")
        assert up.err.count("hangs:") == 2
        assert up.stop() == 0
    finally:
        up.sweep()
