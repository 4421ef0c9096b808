"""Swagger UI at /docs, with its script and style from the package fastapi-offline: a laptop may have no network."""

from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse, Response

_ASSETS = "/docs-assets"
_UI = {
    "defaultModelsExpandDepth": -1,
    "displayRequestDuration": True,
    "docExpansion": "list",
    "filter": True,
    "tryItOutEnabled": True,
}
"""persistAuthorization is left off: it would keep a key in the browser's storage."""


def create_documented_app(**settings: Any) -> FastAPI:
    """A FastAPI application with /docs and /openapi.json; / leads to /docs."""
    app = FastAPIOffline(redoc_url=None, static_url=_ASSETS, swagger_ui_parameters=_UI, **settings)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")

    return app
