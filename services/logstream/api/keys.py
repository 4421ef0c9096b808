"""API keys over HTTP: people manage their own, admins all; an admin key those of its stream."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from logstream.api.deps import Caller
from logstream.api.error_body import errors
from logstream.api.times import from_ns, optional_from_ns, to_ns
from logstream.auth.accounts import Accounts
from logstream.auth.api_keys import UNSET, ApiKey, Unset
from logstream.auth.gate import Gate
from logstream.auth.principal import Principal, Quota, Scope
from logstream.auth.roles import Action, may, require
from logstream.errors import Forbidden, NotFound

KeyId = Annotated[
    str, Path(max_length=64, description="The part of the key that may be shown.", examples=["k3x9a0b1c2d4"])
]
Rate = Annotated[float | None, Field(description="Greater than 0; null: no limit.", examples=[5000])]
Expiry = Annotated[AwareDatetime | None, Field(description="With an offset from UTC; null: never.")]


class QuotaBody(BaseModel):
    """Sustained rates; bursts of two seconds' worth are let through."""

    model_config = ConfigDict(extra="forbid")
    records_per_second: Rate = None
    bytes_per_second: Rate = None


class KeyBody(BaseModel):
    id: str = Field(description="The part of the key that may be shown.", examples=["k3x9a0b1c2d4"])
    name: str = Field(examples=["payment service"])
    stream: str | None = Field(description="null: all streams", examples=["default"])
    scopes: list[Scope]
    owner_id: str | None = Field(description="Whose key it is; null: nobody's.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="A few seconds late at most.")
    quota: QuotaBody


class KeyList(BaseModel):
    keys: list[KeyBody]


class NewKeyBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "payment service", "scopes": ["ingest"], "quota": {"records_per_second": 5000}}
        },
    )
    name: str = Field(description="1 to 100 characters.", examples=["payment service"])
    scopes: list[Scope] = Field(max_length=8, description="At least one, and none that the caller lacks.")
    stream: str | None = Field("default", description="null: all streams, for admins only.")
    expires_at: Expiry = None
    quota: QuotaBody = Field(default_factory=QuotaBody)
    shared: bool = Field(
        False, description="Belong to nobody, and so stay when the caller's account goes; for admins only."
    )


class CreatedKeyBody(BaseModel):
    key: KeyBody
    secret: str = Field(
        description="The whole key, shown once. Send it as `Authorization: Bearer KEY`.",
        examples=["ls_k3x9a0b1c2d4_…"],
    )


class KeyChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field("", description="1 to 100 characters.", examples=["payment service"])
    expires_at: Expiry = None
    quota: QuotaBody = Field(default_factory=QuotaBody, description="Replaces the whole quota.")


def create_router(accounts: Accounts, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["keys"], responses=errors(401, 403, 503))

    def body_of(key: ApiKey) -> KeyBody:
        used = max(key.last_used_at or 0, gate.last_used(key.id) or 0) or None
        return KeyBody(
            id=key.id,
            name=key.name,
            stream=key.stream,
            scopes=sorted(key.scopes),
            owner_id=key.owner_id,
            created_at=from_ns(key.created_at),
            expires_at=optional_from_ns(key.expires_at),
            revoked_at=optional_from_ns(key.revoked_at),
            last_used_at=optional_from_ns(used),
            quota=QuotaBody(
                records_per_second=key.quota.records_per_second, bytes_per_second=key.quota.bytes_per_second
            ),
        )

    async def manageable(key_id: str, caller: Principal) -> ApiKey:
        """The key, when the caller may manage it; NotFound otherwise, so that nobody learns of others' keys."""
        if not may(caller, Action.ALL_KEYS):
            require(caller, Action.OWN_KEYS)
        key = await accounts.keys.get(key_id)
        if may(caller, Action.ALL_KEYS):
            # A key of one stream is not shown keys of all streams either: those can do more than itself.
            is_visible = caller.stream is None or caller.stream == key.stream
        else:
            is_visible = key.owner_id == caller.id
        if not is_visible:
            raise NotFound("there is no such key", field="key_id")
        return key

    @router.get("/keys", summary="List keys", responses=errors(400))
    async def list_keys(
        caller: Caller, revoked: Annotated[bool, Query(description="With the revoked ones.", examples=[True])] = False
    ) -> KeyList:
        """The own keys; for admins all. Newest first, never with their secrets."""
        if may(caller, Action.ALL_KEYS):
            found = await accounts.keys.list(stream=caller.stream, revoked=revoked)
        else:
            require(caller, Action.OWN_KEYS)
            found = await accounts.keys.list(owner_id=caller.id, revoked=revoked)
        return KeyList(keys=[body_of(key) for key in found])

    @router.post("/keys", summary="Make a key", status_code=201, responses=errors(400, 404))
    async def create_key(body: NewKeyBody, caller: Caller, response: Response) -> CreatedKeyBody:
        """It can do no more than its owner, now and later, and is shown this once."""
        _check_new(body, caller)
        if body.stream is not None:
            gate.stream(body.stream)
        response.headers["Cache-Control"] = "no-store"
        made = await accounts.create_key(
            body.name,
            scopes=body.scopes,
            stream=body.stream,
            owner_id=caller.id if caller.kind == "user" and not body.shared else None,
            expires_at=to_ns(body.expires_at) if body.expires_at is not None else None,
            quota=_quota(body.quota),
        )
        return CreatedKeyBody(key=body_of(made.key), secret=made.text)

    @router.get("/keys/{key_id}", summary="One key", responses=errors(400, 404))
    async def get_key(key_id: KeyId, caller: Caller) -> KeyBody:
        """Without its secret, which nobody has any more."""
        return body_of(await manageable(key_id, caller))

    @router.patch("/keys/{key_id}", summary="Change a key", responses=errors(400, 404, 409))
    async def change_key(key_id: KeyId, body: KeyChange, caller: Caller) -> KeyBody:
        """Change name, expiry or quota; scopes and stream of a key never change."""
        await manageable(key_id, caller)
        given = body.model_fields_set
        expires_at: int | Unset | None = UNSET
        if "expires_at" in given:
            expires_at = to_ns(body.expires_at) if body.expires_at is not None else None
        return body_of(
            await accounts.keys.update(
                key_id,
                name=body.name if "name" in given else UNSET,
                expires_at=expires_at,
                quota=_quota(body.quota) if "quota" in given else UNSET,
            )
        )

    @router.delete("/keys/{key_id}", summary="Revoke a key", responses=errors(400, 404))
    async def revoke_key(key_id: KeyId, caller: Caller) -> KeyBody:
        """It ends for good: here at once, everywhere within 5 seconds."""
        await manageable(key_id, caller)
        return body_of(await accounts.keys.revoke(key_id))

    return router


def _quota(body: QuotaBody) -> Quota:
    return Quota(body.records_per_second, body.bytes_per_second)


def _check_new(body: NewKeyBody, caller: Principal) -> None:
    manages_all = may(caller, Action.ALL_KEYS)
    if not manages_all:
        require(caller, Action.OWN_KEYS)
        for scope in body.scopes:
            caller.require(scope)
    if body.shared and not manages_all:
        raise Forbidden("only admins make shared keys", field="shared")
    if body.stream is None and (not manages_all or caller.stream is not None):
        raise Forbidden("only admins of all streams make keys for all streams", field="stream")
    if caller.stream is not None and body.stream != caller.stream:
        raise Forbidden(f"this {caller.kind} belongs to another stream than '{body.stream}'", field="stream")
