"""Whether a process of the full installation is ready, and if not, why. Standard library only."""

import http.client
import json
from collections.abc import Callable

SECONDS = 2.0

Lacks = Callable[[], str | None]
"""What a process still waits for, in words; None when it is ready."""


def readyz(host: str, port: int) -> Lacks:
    """Asks /readyz, which gives its reasons."""
    return lambda: _ask(host, port, "/readyz")


def ping(host: str, port: int) -> Lacks:
    """Asks ClickHouse's /ping."""
    return lambda: _ask(host, port, "/ping")


def yes(is_ready: Callable[[], bool]) -> Lacks:
    """From a question that knows no reasons."""
    return lambda: None if is_ready() else "it does not answer yet"


def _ask(host: str, port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer yet: {error!r}"
    finally:
        connection.close()
    return None if answer.status == 200 else _reasons(answer.status, body)


def _reasons(status: int, body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return "; ".join(f"{name}: {said}" for name, said in checks.items() if said != "ok") or f"it answers {status}"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"it answers {status}"
