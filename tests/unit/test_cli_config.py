"""Contexts, precedence, and a file that keeps its secrets."""

import stat
from pathlib import Path

import pytest

from logstream.cli import config
from logstream.cli.config import Config, Context
from logstream.cli.failure import Failure


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "conf" / "config.toml"
    monkeypatch.setenv("LOGSTREAM_CONFIG", str(path))
    return path


PROD = Context("https://in.example.com", "https://logs.example.com", "ls_prod_secret_x", "lss_session")


def test_what_is_saved_is_loaded(file: Path) -> None:
    saved = Config("prod", {"prod": PROD, 'odd "name" \\ ü': Context(api_key="a'b\"c\\d\te")})
    config.save(saved)
    assert config.load() == saved
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_a_file_the_addresses_are_this_machines() -> None:
    target = config.resolve(environ={})
    assert (target.ingest_url, target.api_url, target.credential()) == (
        "http://127.0.0.1:8080", "http://127.0.0.1:8081", "",
    )  # fmt: skip


def test_flags_win_over_the_environment_and_that_over_the_context() -> None:
    config.save(Config("prod", {"prod": PROD}))
    environ = {"LOGSTREAM_API_KEY": "ls_env", "LOGSTREAM_API_URL": "http://env:1"}
    from_context = config.resolve(environ={})
    assert (from_context.api_url, from_context.credential()) == ("https://logs.example.com", "ls_prod_secret_x")
    from_environment = config.resolve(environ=environ)
    assert (from_environment.api_url, from_environment.credential()) == ("http://env:1", "ls_env")
    assert from_environment.ingest_url == "https://in.example.com"
    from_flags = config.resolve(environ=environ, api_key="ls_flag", api_url="http://flag:2/")
    assert (from_flags.api_url, from_flags.credential()) == ("http://flag:2", "ls_flag")


def test_administration_prefers_the_login_but_an_explicit_key_wins() -> None:
    config.save(Config("prod", {"prod": PROD}))
    assert config.resolve(environ={}).credential(person=True) == "lss_session"
    assert config.resolve(environ={}, api_key="ls_flag").credential(person=True) == "ls_flag"


def test_the_ingest_endpoint_may_be_pasted() -> None:
    assert config.resolve(environ={}, ingest_url="http://h:1/ingest").ingest_url == "http://h:1"


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://h", "http://", "h"])
def test_a_bad_address_is_wrong_usage(address: str) -> None:
    with pytest.raises(Failure, match="is not an address") as failure:
        config.resolve(environ={}, api_url=address)
    assert failure.value.status == 2


def test_an_unknown_context_names_the_known_ones() -> None:
    config.save(Config("prod", {"prod": PROD}))
    with pytest.raises(Failure, match=r"no context 'test' \(there are: prod\)"):
        config.resolve(environ={}, context="test")


@pytest.mark.parametrize("text", ["x = [", "contexts = 3", "[contexts]\na = 1", "[contexts.a]\napi_key = 3"])
def test_a_broken_file_is_said_to_be(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(Failure, match="correct or remove it"):
        config.load()


def test_secrets_are_not_in_any_repr() -> None:
    config.save(Config("prod", {"prod": PROD}))
    shown = repr(PROD) + repr(config.resolve(environ={}))
    assert "ls_prod" not in shown
    assert "lss_" not in shown
