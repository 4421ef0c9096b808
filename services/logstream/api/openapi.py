"""The OpenAPI document: FastAPI's, with our one form of errors in place of its own, and the collector's entry."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from logstream import __version__
from logstream.api import ingest_entry

_DESCRIPTION = """
Send, search and tail logs; administer who may. `POST /ingest` is served by the collector, another port.

Send `Authorization: Bearer KEY` with an API key, or with the token of `POST /api/v1/login`. Browsers, which cannot
send headers with WebSocket and EventSource, add `?ticket=` from `POST /api/v1/tickets`. A stream with
`anonymous_reads` can be read without either.

WebSockets: `/ws` (messages are JSON arrays of entries) and `/api/v1/tail` (messages are frames; see its entry).
Every error answer is `{"error": {"code", "message", "field"?, "limit"?}}`.
"""

_TAGS = {
    "ingest": "Send logs",
    "search": "Find and count logs",
    "analysis": "What the lines of a period are like",
    "saved": "Saved views, mine and shared",
    "tail": "Logs as they arrive",
    "account": "Sign up, log in, tickets",
    "keys": "API keys",
    "users": "Accounts, for admins",
    "streams": "Streams and the ledger",
    "dead letters": "What ClickHouse refused",
    "redaction": "What is taken out before it is kept",
    "operation": "Health and metrics",
}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is not one that may be null: a query has no null."""
    match [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]:
        case [only]:
            return {**{name: value for name, value in schema.items() if name != "anyOf"}, **only}
    return schema


def install(app: FastAPI, *, ingest_url: str) -> None:
    """Make `app` describe itself as it behaves. ingest_url: the collector's address."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="LogStream API",
                version=__version__,
                description=_DESCRIPTION.strip(),
                routes=app.routes,
                tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    # Invalid parameters are answered 400 in our form; 422 is a route's own or none.
                    if "HTTPValidationError" in str(operation["responses"].get("422")):
                        del operation["responses"]["422"]
                    for parameter in operation.get("parameters", ()):
                        parameter["schema"] = _without_null(parameter["schema"])
                    if {"ticket": []} in operation.get("security", ()):
                        # A stream may allow anonymous reads.
                        operation["security"].append({})
            schema["paths"]["/ingest"] = ingest_entry.path_item(ingest_url)
            schemas = schema["components"]["schemas"]
            schemas |= ingest_entry.SCHEMAS
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
