"""Who is calling, as FastAPI dependencies for HTTP and WebSocket routes.

The application must have its gate at `app.state.gate`. A credential is the Authorization header (`Bearer X` or
the bare key or session) or, without that header, the query parameter `ticket`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from logstream.auth.gate import Gate
from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import Action, require
from logstream.errors import Unauthenticated


class _Bearer(SecurityBase):
    """Reads the Authorization header and declares it to OpenAPI; unlike FastAPI's own it works on WebSockets."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An API key (ls_…) or the session token of a login (lss_…).")
        self.scheme_name = "bearer"

    async def __call__(self, connection: HTTPConnection) -> str | None:
        values = connection.headers.getlist("authorization")
        if len(values) > 1:
            raise Unauthenticated("more than one Authorization header")
        return values[0] if values else None


class _Ticket(SecurityBase):
    """Reads the query parameter `ticket` and declares it to OpenAPI, on WebSockets too."""

    def __init__(self) -> None:
        self.model = APIKey(
            **{"in": APIKeyIn.query},
            name="ticket",
            description="A ticket of POST /api/v1/tickets, for browsers where they can send no header.",
        )
        self.scheme_name = "ticket"

    async def __call__(self, connection: HTTPConnection) -> str | None:
        return connection.query_params.get("ticket")


Authorization = Annotated[str | None, Depends(_Bearer())]
Ticket = Annotated[str | None, Depends(_Ticket())]


def gate_of(connection: HTTPConnection) -> Gate:
    """The application's gate."""
    gate: Gate = connection.app.state.gate
    return gate


async def current_principal(
    connection: HTTPConnection, authorization: Authorization, ticket: Ticket = None
) -> Principal:
    """The caller, by header or ticket. Raises Unauthenticated, or Unavailable while the accounts database is away."""
    return gate_of(connection).authenticate(authorization, ticket=ticket)


async def header_principal(connection: HTTPConnection, authorization: Authorization) -> Principal:
    """The caller, by header only: a ticket must not get another ticket, nor stand in logs of ordinary requests."""
    return gate_of(connection).authenticate(authorization)


Caller = Annotated[Principal, Depends(header_principal)]


def authorize_read(gate: Gate, stream: str, authorization: str | None, ticket: str | None = None) -> Principal:
    """The caller, who may read `stream`: with the scope `read`, or anybody where the stream allows it.

    A credential that is sent is judged, even where none is needed: a mistyped key gets its 401.
    Raises Unauthenticated, Forbidden, NotFound, Unavailable.
    """
    if authorization is None and ticket is None:
        return gate.anonymous(stream)
    principal = gate.authenticate(authorization, ticket=ticket)
    principal.require(Scope.READ, stream=stream)
    return principal


def reader(stream: str = "default") -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, who may read `stream` (see `authorize_read`)."""

    async def dependency(connection: HTTPConnection, authorization: Authorization, ticket: Ticket = None) -> Principal:
        return authorize_read(gate_of(connection), stream, authorization, ticket)

    return dependency


def allowed(action: Action, *, stream: str | None = None) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, who has the right to `action` (on `stream`). Raises Forbidden besides."""

    async def dependency(principal: Caller) -> Principal:
        require(principal, action, stream=stream)
        return principal

    return dependency
