"""The configuration file with named contexts, and which address and credential a command uses.

    current = "local"

    [contexts.local]
    ingest_url = "http://127.0.0.1:8080"
    api_url = "http://127.0.0.1:8081"
    api_key = "ls_…"
    session = "…"

Precedence: flags, then LOGSTREAM_API_KEY, LOGSTREAM_INGEST_URL and LOGSTREAM_API_URL, then the context, then
this machine's default ports. The file holds secrets: it is written with mode 0600, whole or not at all.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from logstream.cli.failure import Failure
from logstream.cli.files import write_private

INGEST_URL = "http://127.0.0.1:8080"
API_URL = "http://127.0.0.1:8081"


@dataclass(frozen=True, slots=True)
class Context:
    """One platform: where it is and who we are there. Empty: not set."""

    ingest_url: str = ""
    api_url: str = ""
    api_key: str = field(default="", repr=False)
    session: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    """The file's content."""

    current: str = ""
    contexts: Mapping[str, Context] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What one command talks to. URLs have no trailing slash.

    explicit_key: the key came from a flag or the environment, so it wins over a session.
    """

    ingest_url: str
    api_url: str
    api_key: str = field(repr=False)
    session: str = field(repr=False)
    explicit_key: bool
    context: str

    def credential(self, *, person: bool = False) -> str:
        """What goes behind "Bearer": for administration (`person`) the login is tried first, else the key."""
        if self.explicit_key:
            return self.api_key
        return (self.session or self.api_key) if person else (self.api_key or self.session)


def path() -> Path:
    """$LOGSTREAM_CONFIG, or logstream/config.toml in the user's configuration folder."""
    if chosen := os.environ.get("LOGSTREAM_CONFIG"):
        return Path(chosen)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "logstream" / "config.toml"


def load() -> Config:
    """The configuration; empty when there is no file. Raises Failure when it cannot be read."""
    where = path()
    try:
        raw = tomllib.loads(where.read_text())
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read the configuration {where}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"the configuration {where} is not valid TOML ({error}); correct or remove it") from error
    known = {f.name for f in fields(Context)}
    contexts: dict[str, Context] = {}
    tables = raw.get("contexts", {})
    if not isinstance(tables, dict):
        raise Failure(f"'contexts' in {where} must be a table; correct or remove it")
    for name, values in tables.items():
        if not isinstance(values, dict) or not all(isinstance(values.get(k, ""), str) for k in known):
            raise Failure(f"context '{name}' in {where} must be a table of strings; correct or remove it")
        contexts[name] = Context(**{k: v for k, v in values.items() if k in known})
    current = raw.get("current", "")
    return Config(current if isinstance(current, str) else "", contexts)


def save(config: Config) -> None:
    """Write the file with mode 0600, whole or not at all."""
    lines = [f"current = {_quote(config.current)}"]
    for name, context in sorted(config.contexts.items()):
        lines += ["", f"[contexts.{_quote(name)}]"]
        lines += [f"{f.name} = {_quote(v)}" for f in fields(Context) if (v := getattr(context, f.name))]
    where = path()
    try:
        where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(where, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise Failure(f"cannot write the configuration {where}: {error.strerror or error}") from error


def _quote(text: str) -> str:
    # A JSON string in ASCII is a TOML basic string, but for DEL, which neither writes here.
    return json.dumps(text)


def put(config: Config, name: str, context: Context, *, use: bool) -> Config:
    """`config` with the context added or replaced."""
    return Config(name if use or not config.current else config.current, {**config.contexts, name: context})


def resolve(
    *,
    context: str | None = None,
    api_key: str | None = None,
    ingest_url: str | None = None,
    api_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Which addresses and credential to use. Raises Failure for an unknown context or a bad address."""
    config = load()
    name = context or environ.get("LOGSTREAM_CONTEXT") or config.current
    found = config.contexts.get(name)
    if found is None:
        if context or environ.get("LOGSTREAM_CONTEXT"):
            names = ", ".join(sorted(config.contexts)) or "none"
            raise Failure(f"there is no context '{name}' (there are: {names}); add one with: logstream login", status=2)
        found = Context()
    given_key = api_key or environ.get("LOGSTREAM_API_KEY") or ""
    return Target(
        ingest_url=_address(ingest_url or environ.get("LOGSTREAM_INGEST_URL") or found.ingest_url or INGEST_URL),
        api_url=_address(api_url or environ.get("LOGSTREAM_API_URL") or found.api_url or API_URL),
        api_key=given_key or found.api_key,
        session=found.session,
        explicit_key=bool(given_key),
        context=name,
    )


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Failure(f"'{text}' is not an address; write it like http://127.0.0.1:8080", status=2)
    text = text.rstrip("/")
    # People paste the endpoint they use with curl.
    return text.removesuffix("/ingest")
