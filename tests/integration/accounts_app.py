"""The accounts routes in an application of their own, on a real database, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from logstream.api.accounts import create_router
from logstream.api.deps import current_principal, reader
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.passwords import Passwords
from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import Role
from logstream.clock import ManualClock
from logstream.errors import LogStreamError, RetryLater
from logstream.settings import ApiSettings, AuthSettings
from logstream.stream import make_stream

PASSWORD = "correct horse battery"


@dataclass
class Running:
    """An application with a client. `credentials`: by the caller's name, see `start`."""

    accounts: Accounts
    gate: Gate
    clock: ManualClock
    app: FastAPI
    client: httpx.AsyncClient
    database: Path
    credentials: dict[str, str | None] = field(default_factory=dict)
    user_ids: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, caller: str = "anonymous", **arguments: Any) -> httpx.Response:
        credential = self.credentials[caller]
        headers = {"Authorization": f"Bearer {credential}"} if credential is not None else {}
        return await self.client.request(method, path, headers=headers, **arguments)


@asynccontextmanager
async def start(folder: Path, *, settings: ApiSettings | None = None, people: bool = True) -> AsyncIterator[Running]:
    """One user of each role, keys of each scope for the stream "default", and one admin key for all streams."""
    clock = ManualClock()
    database = folder / "auth.db"
    accounts = await Accounts.open(
        AuthSettings(url=f"sqlite+aiosqlite:///{database}"), clock, passwords=Passwords(memory_kib=8, passes=1)
    )
    gate = await Gate.open(accounts)
    await accounts.ensure_stream(make_stream("default"))
    await accounts.ensure_stream(make_stream("other"))
    app = _create_app(accounts, gate, settings or ApiSettings())
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8081") as client:
        running = Running(accounts, gate, clock, app, client, database, {"anonymous": None})
        if people:
            await _populate(running)
        yield running
    await accounts.close()


def _create_app(accounts: Accounts, gate: Gate, settings: ApiSettings) -> FastAPI:
    app = FastAPI()
    app.state.gate = gate
    app.include_router(create_router(accounts, gate, settings))

    @app.exception_handler(LogStreamError)
    async def on_error(_request: Request, error: LogStreamError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, RetryLater) else None
        return JSONResponse(error.body(), status_code=error.status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, _error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": {"code": "invalid_value", "message": "invalid"}}, status_code=400)

    @app.get("/read", include_in_schema=False)
    async def read(caller: Principal = Depends(reader("default"))) -> str:  # noqa: B008
        return caller.kind

    @app.get("/who", include_in_schema=False)
    async def who(caller: Principal = Depends(current_principal)) -> str:  # noqa: B008
        return caller.id

    return app


async def _populate(running: Running) -> None:
    accounts = running.accounts
    for role in Role:
        user = await accounts.users.create(f"{role}@example.com", PASSWORD, role=role)
        running.user_ids[role] = user.id
        running.credentials[role] = (await accounts.logins.log_in(user.email, PASSWORD)).token
    for scope in Scope:
        running.credentials[f"{scope} key"] = (await accounts.create_key(f"{scope} key", scopes=[scope])).text
    made = await accounts.create_key("platform key", scopes=[Scope.ADMIN], stream=None)
    running.credentials["platform key"] = made.text
