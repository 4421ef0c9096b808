"""The OpenAPI document: FastAPI's, with our one form of errors in place of its own."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from logstream import __version__

_DESCRIPTION = """
Search, live tail and administration of LogStream. Logs are sent to the collector (`POST /ingest`, another port).

Send `Authorization: Bearer KEY` with an API key, or with the token of `POST /api/v1/login`. Browsers, which cannot
send headers with WebSocket and EventSource, add `?ticket=` from `POST /api/v1/tickets`.

WebSockets: `/ws` (messages are JSON arrays of entries) and `/api/v1/tail` (messages are frames; see its entry).
Every error answer is `{"error": {"code", "message", "field"?, "limit"?}}`.
"""


def install(app: FastAPI) -> None:
    """Make `app` describe itself as it behaves."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="LogStream API", version=__version__, description=_DESCRIPTION.strip(), routes=app.routes
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    # Invalid parameters are answered 400 in our form, never 422.
                    operation["responses"].pop("422", None)
            schemas = schema.get("components", {}).get("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
