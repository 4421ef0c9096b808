"""Accounts over HTTP: sign up, log in, log out, the own password, tickets; and all routers of administration."""

import ipaddress
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from logstream.api import keys, streams, users
from logstream.api.deps import Authorization, Caller, allowed
from logstream.api.error_body import errors
from logstream.api.times import from_ns
from logstream.api.users import Email, Password, UserBody, user_body
from logstream.auth.accounts import Accounts
from logstream.auth.gate import Gate
from logstream.auth.keys import credential_of
from logstream.auth.logins import Session
from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import Action, Role
from logstream.errors import Forbidden
from logstream.settings import ApiSettings

TypedPassword = Annotated[str, Field(max_length=1024, description="As typed.", examples=["correct horse battery"])]


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Annotated[str, Field(max_length=1024, examples=["ada@example.com"])]
    password: TypedPassword


class SignUp(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Email
    password: Password


class SessionBody(BaseModel):
    token: str = Field(description="Shown once. Send it as `Authorization: Bearer TOKEN`.", examples=["lss_…"])
    expires_at: datetime
    user: UserBody


class Me(BaseModel):
    """The caller as LogStream sees it."""

    kind: str = Field(description="user or key", examples=["user"])
    id: str
    name: str = Field(description="The e-mail address, or the key's name.", examples=["ada@example.com"])
    role: Role | None = Field(description="null for a key")
    scopes: list[Scope]
    stream: str | None = Field(description="The only stream a key is good for; null: all.")


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    current_password: TypedPassword
    new_password: Password


class TicketBody(BaseModel):
    ticket: str = Field(description="For the query parameter `ticket`; good once.", examples=["lst_…"])
    expires_in_seconds: float


def check_sign_up(settings: ApiSettings, *, host: str, origin: str | None) -> None:
    """Raises Forbidden where sign-up is off: by default it is for this machine only.

    host, origin: those headers. Listening on loopback keeps other machines out, but not the web sites that a
    browser on this machine shows: they may send requests here (CORS allows reading with a key), under their own
    name (Origin) or one that they made resolve to loopback (Host).
    """
    if settings.signup is None:
        names = [settings.host, _host_name(f"//{host}")]
        if origin is not None:
            names.append(_host_name(origin))
        is_on = all(map(_is_loopback, names))
    else:
        is_on = settings.signup
    if not is_on:
        raise Forbidden("sign-up is off here: ask an admin for an account")


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_loopback(name: str | None) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return False


def create_router(accounts: Accounts, gate: Gate, settings: ApiSettings) -> APIRouter:
    """Everything under /api/v1 about accounts, users, keys and streams. Needs `app.state.gate` (see `deps`)."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_account_router(accounts, gate, settings))
    router.include_router(users.create_router(accounts))
    router.include_router(keys.create_router(accounts, gate))
    router.include_router(streams.create_router(accounts, gate))
    return router


def _account_router(accounts: Accounts, gate: Gate, settings: ApiSettings) -> APIRouter:
    router = APIRouter(tags=["account"])

    @router.post("/signup", summary="Sign up", status_code=201, responses=errors(400, 403, 409, 429, 503))
    async def sign_up(body: SignUp, request: Request, response: Response) -> SessionBody:
        """Make an account with the role member and log in. By default only where the API listens on loopback."""
        check_sign_up(settings, host=request.headers.get("host", ""), origin=request.headers.get("origin"))
        response.headers["Cache-Control"] = "no-store"
        return _session_body(await accounts.logins.sign_up(body.email, body.password, address=_address(request)))

    @router.post("/login", summary="Log in", responses=errors(400, 401, 429, 503))
    async def log_in(body: Credentials, request: Request, response: Response) -> SessionBody:
        """The token is good for twelve hours unless set otherwise. A failure makes the next attempt wait: 429."""
        response.headers["Cache-Control"] = "no-store"
        return _session_body(await accounts.logins.log_in(body.email, body.password, address=_address(request)))

    @router.post(
        "/logout",
        summary="Log out",
        status_code=204,
        responses=errors(401, 403, 503),
        dependencies=[Depends(allowed(Action.OWN_ACCOUNT))],
    )
    async def log_out(authorization: Authorization) -> None:
        """End this session."""
        await accounts.logins.log_out(credential_of(authorization or ""))

    @router.get("/me", summary="Who is calling", responses=errors(401, 503))
    async def me(caller: Caller) -> Me:
        """Who is calling, and what they may do."""
        return Me(
            kind=caller.kind,
            id=caller.id,
            name=caller.name,
            role=Role(caller.role) if caller.role is not None else None,
            scopes=sorted(caller.scopes),
            stream=caller.stream,
        )

    @router.post(
        "/password", summary="Change the own password", status_code=204, responses=errors(400, 401, 403, 429, 503)
    )
    async def change_password(
        body: PasswordChange,
        caller: Annotated[Principal, Depends(allowed(Action.OWN_ACCOUNT))],
        request: Request,
        authorization: Authorization,
    ) -> None:
        """All other sessions of the account end."""
        await accounts.logins.change_password(
            await accounts.users.get(caller.id),
            body.current_password,
            body.new_password,
            token=credential_of(authorization or ""),
            address=_address(request),
        )

    @router.post("/tickets", summary="Get a ticket", status_code=201, responses=errors(401, 403, 429, 503))
    async def issue_ticket(
        caller: Annotated[Principal, Depends(allowed(Action.READ_LOGS))], response: Response
    ) -> TicketBody:
        """A ticket for one WebSocket or SSE connection of a browser, which cannot send headers there."""
        response.headers["Cache-Control"] = "no-store"
        return TicketBody(ticket=gate.issue_ticket(caller), expires_in_seconds=accounts.settings.ticket_seconds)

    return router


def _address(request: Request) -> str | None:
    return request.client.host if request.client is not None else None


def _session_body(session: Session) -> SessionBody:
    return SessionBody(token=session.token, expires_at=from_ns(session.expires_at), user=user_body(session.user))
