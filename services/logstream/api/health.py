"""`/health`, `/livez`, `/readyz` and `/metrics`."""

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from logstream import __version__
from logstream.api.services import Services, services_of
from logstream.errors import LogStreamError
from logstream.metrics import exposition

_TIMEOUT = 3.0


class Health(BaseModel):
    status: str = Field(description="ok, or degraded when a check failed.", examples=["ok"])
    version: str = Field(examples=[__version__])
    checks: dict[str, str] = Field(
        description="What each part says: ok, or why not.", examples=[{"store": "ok", "log": "ok"}]
    )


async def _check(check: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT):
            await check
    except LogStreamError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {_TIMEOUT:g} s"
    return "ok"


async def _checks(services: Services) -> dict[str, str]:
    store, log = await asyncio.gather(
        _check(services.store.check(info.stream for info in services.gate.streams())), _check(services.bus.check())
    )
    return {"store": store, "log": log}


def _answer(checks: dict[str, str], bad_status: int) -> Response:
    well = all(said == "ok" for said in checks.values())
    body = {"status": "ok" if well else "degraded", "version": __version__, "checks": checks}
    return JSONResponse(body, 200 if well else bad_status, {} if well else {"Retry-After": "2"})


def create_router() -> APIRouter:
    """Open to everybody: nothing here says what is stored."""
    router = APIRouter(tags=["operation"])

    @router.get("/health", response_model=Health, summary="How everything that reads need is doing")
    async def health(request: Request) -> Response:
        """Always 200 while the process runs; `status` and `checks` say what is away."""
        return _answer(await _checks(services_of(request)), 200)

    @router.get(
        "/readyz",
        response_model=Health,
        responses={503: {"model": Health, "description": "A part that reads need is away."}},
        summary="Ready for requests",
    )
    async def readyz(request: Request) -> Response:
        """Asks the store (the tables of all streams are there) and the log, each for at most three seconds."""
        return _answer(await _checks(services_of(request)), 503)

    @router.get("/livez", response_model=Health, summary="The process answers")
    async def livez() -> Response:
        """Asks nobody: a process that cannot answer this is to be restarted."""
        return JSONResponse({"status": "ok", "version": __version__, "checks": {}})

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
        summary="Metrics of this process",
    )
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
