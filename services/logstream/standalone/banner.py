"""What `logstream up` prints when it is ready. Standard library only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running platform is reached, as URLs without a trailing slash."""

    collector: str
    api: str
    clickhouse: str


def url(host: str, port: int) -> str:
    """The URL people on this machine use for what listens on `host`."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def banner(
    version: str,
    addresses: Addresses,
    data: Path,
    first_login: dict[str, Any] | None,
    *,
    colour: bool,
    password: bool = False,
) -> str:
    """The lines to print; `first_login` (shown on the first start only) is what first-login.json holds.

    password: whether the engine asks for one.
    """
    bold, dim, plain = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")

    def row(name: str, value: str, note: str = "") -> str:
        return f"  {dim}{name:<11}{plain} {value}" + (f"  {dim}{note}{plain}" if note else "")

    lines = [
        f"{bold}LogStream {version} is ready{plain}",
        row("collector", f"{addresses.collector}/ingest"),
        row("API", addresses.api, f"OpenAPI: {addresses.api}/docs"),
        row("ClickHouse", addresses.clickhouse, "loopback only" if password else "loopback only, no password"),
        row("data", str(data)),
    ]
    if first_login is not None:
        admin = first_login["admin"]
        lines += [
            "",
            f"{bold}First login{plain} (shown once; also in {data / 'first-login.json'}: delete it once you have it)",
            row("e-mail", admin["email"]),
            row("password", admin["password"]),
            row("API key", first_login["api_key"], "ingest, read"),
            "",
            "Try it:",
            f"  logstream login --file {data / 'first-login.json'}",
            "  logstream send 'Hello, LogStream' --service demo",
            "  logstream tail",
        ]
    lines += ["", f"{dim}Ctrl-C stops it.{plain}"]
    return "\n".join(lines)
