"""What the client of a read may say about it beside the question: how long it may run, and what it is called."""

import math
import re
from typing import Annotated, Any

from fastapi import Depends, Header, Query
from starlette.requests import Request

from logstream.api.error_body import errors
from logstream.errors import InvalidValue

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def chosen_id(request: Request) -> str | None:
    """The name in `X-Query-Id`. Raises InvalidValue."""
    text = request.headers.get("x-query-id")
    if text is not None and not _ID.fullmatch(text):
        raise InvalidValue("X-Query-Id may have 1 to 64 of A-Z a-z 0-9 _ . -", field="X-Query-Id", limit=64)
    return text


def timeout(request: Request) -> float | None:
    """The seconds in `timeout=`. Raises InvalidValue."""
    text = request.query_params.get("timeout")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidValue(f"timeout must be a number of seconds above 0: {text[:32]!r}", field="timeout")
    return seconds


async def _declared(
    timeout: Annotated[
        str | None, Query(description="Seconds it may run; no more than the server allows.", examples=["5"])
    ] = None,
    x_query_id: Annotated[
        str | None,
        Header(description="What to call it in `/api/v1/queries`: 1 to 64 of A-Z a-z 0-9 _ . -", examples=["panel-7"]),
    ] = None,
) -> None:
    """For OpenAPI: `Reads` takes them from the request."""


READ: dict[str, Any] = {"dependencies": [Depends(_declared)], "responses": errors(409)}
"""Arguments of `include_router` for routes that go through `Reads`."""
