"""The API as one ASGI application."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from logstream import __version__
from logstream.api import (
    accounts,
    analysis,
    context,
    deadletters,
    errors,
    explain,
    export,
    health,
    ledger,
    openapi,
    queries,
    query,
    reads,
    redaction,
    saved,
    search,
    tail,
    verify,
)
from logstream.api.docs import create_documented_app
from logstream.api.middleware import Bodies, Heads, Observed
from logstream.api.read_options import READ
from logstream.api.running import ReadHeaders
from logstream.api.services import Services
from logstream.auth.accounts import Accounts


def create_app(services: Services, all_accounts: Accounts) -> FastAPI:
    """Every route, wired to `services`; whoever makes it closes `services` in the end."""
    settings = services.settings
    app = create_documented_app(title="LogStream API", version=__version__)
    app.state.services = services
    app.state.gate = services.gate
    app.include_router(reads.create_router(settings), **READ)
    app.include_router(search.create_router(settings), **READ)
    app.include_router(context.create_router(), **READ)
    app.include_router(export.create_router(settings))
    app.include_router(analysis.create_router(), **READ)
    app.include_router(tail.create_router())
    app.include_router(queries.create_router())
    app.include_router(query.create_router(settings.max_limit), **READ)
    app.include_router(explain.create_router(settings.max_limit), **READ)
    app.include_router(deadletters.create_router())
    app.include_router(ledger.create_router())
    app.include_router(verify.create_router())
    app.include_router(redaction.create_router(settings.redaction, settings.limits))
    app.include_router(accounts.create_router(all_accounts, services.gate, settings))
    app.include_router(saved.create_router(all_accounts, services.gate))
    app.include_router(health.create_router())
    app.add_middleware(ReadHeaders)
    app.add_middleware(Bodies)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "If-Match", "X-Query-Id"],
        expose_headers=["ETag", "Retry-After", "X-Query-Id", "X-Rows-Read", "X-Bytes-Read"],
        max_age=600,
    )
    app.add_middleware(Heads)
    app.add_middleware(Observed)
    errors.install(app)
    openapi.install(app, ingest_url=settings.ingest_url)
    return app
