"""The parts of the supervisor that need no processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.errors import StartupError
from logstream.standalone import preflight
from logstream.standalone.banner import Addresses, banner, url
from logstream.standalone.child import LONGEST_PAUSE, Child, Command, describe
from logstream.standalone.options import UpOptions, parse

PORTS = st.integers(0, 65_535)


@given(
    st.builds(
        UpOptions,
        data=st.sampled_from([Path("d"), Path("/a b/ü"), Path("-x")]).map(lambda p: Path(os.path.abspath(p))),
        host=st.sampled_from(["127.0.0.1", "::1", "0.0.0.0"]),
        collector_port=PORTS,
        api_port=PORTS,
        clickhouse_port=PORTS,
        retention_days=st.none() | st.integers(1, 10_950),
        signup=st.none() | st.booleans(),
    )
)
def test_options_reach_the_supervisor_as_they_were_given(options: UpOptions) -> None:
    assert parse(options.arguments()) == options


def test_the_supervisor_imports_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, logstream.standalone.up\n"
        "own = {'logstream'} | set(sys.stdlib_module_names)\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} - own - {'__main__', '__mp_main__'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    names = done.stdout.replace("_virtualenv", "").replace("'sitecustomize'", "")
    assert not [
        n for n in ("typer", "rich", "pydantic", "httpx", "uvicorn", "structlog", "asyncio") if f"'{n}'" in names
    ]


def test_too_little_space_is_said_with_both_sizes(tmp_path: Path) -> None:
    preflight.check_space(tmp_path, minimum=1)
    with pytest.raises(StartupError, match=r"only \d+ MiB are free on the disk of .* and at least \d+ MiB are needed"):
        preflight.check_space(tmp_path, minimum=1 << 60)


def test_a_lock_whose_holder_lives_is_refused_at_once_and_names_it(tmp_path: Path) -> None:
    held = preflight.lock(tmp_path)
    try:
        with pytest.raises(StartupError, match=rf"already running on .* \(process {os.getpid()}\)"):
            preflight.lock(tmp_path, patience=3600)
    finally:
        os.close(held)
    os.close(preflight.lock(tmp_path))


def test_a_lock_held_by_orphans_is_waited_for(tmp_path: Path) -> None:
    held = preflight.lock(tmp_path)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True)
    os.pwrite(held, ended.stdout + b" " * 10, 0)
    try:
        with pytest.raises(StartupError, match="already running"):
            preflight.lock(tmp_path, patience=0.0)
    finally:
        os.close(held)


def test_restarts_come_slower_while_deaths_follow_each_other() -> None:
    child = Child(Command("engine", (), {}, (), sys.executable), started=float("inf"))
    pauses = [child.plan_restart() for _ in range(12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[1], pauses[-1]) == (0.1, 0.2, LONGEST_PAUSE)
    assert child.restarts == 12
    child.started = float("-inf")
    assert child.plan_restart() == 0.1


def test_messages_are_lines_however_they_are_cut() -> None:
    child = Child(Command("app", (), {}, (), sys.executable))
    assert [child.messages(part) for part in (b'{"a"', b":1}\n{", b"}\n\nrest")] == [[], [b'{"a":1}'], [b"{}", b""]]


def test_statuses_in_words() -> None:
    assert describe(1) == "ended with status 1"
    assert describe(-9) == "was killed by SIGKILL"
    assert describe(-250) == "was killed by signal 250"


def test_urls_are_ones_that_people_here_can_open() -> None:
    assert url("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url("::1", 1) == "http://[::1]:1"
    assert url("logs.example.com", 1) == "http://logs.example.com:1"


def test_the_banner_is_plain_where_nobody_looks_and_shows_secrets_only_once() -> None:
    addresses = Addresses("http://c", "http://a", "http://e")
    login = {"admin": {"email": "admin@x", "password": "secret-1"}, "api_key": "ls_secret-2"}
    first = banner("1", addresses, Path("/d"), login, colour=False)
    later = banner("1", addresses, Path("/d"), None, colour=False)
    assert "\033" not in first + later
    assert first.count("secret-1") == first.count("ls_secret-2") == 1
    assert "secret" not in later
