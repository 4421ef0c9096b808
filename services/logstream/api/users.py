"""Users over HTTP, for admins."""

import secrets
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from logstream.api.deps import allowed
from logstream.api.error_body import errors
from logstream.api.times import from_ns
from logstream.auth.accounts import Accounts
from logstream.auth.roles import Action, Role
from logstream.auth.users import User
from logstream.auth.validation import MAX_EMAIL, MAX_PASSWORD, MIN_PASSWORD

# The limits proper are checked by `logstream.auth.validation`, whose answers name field and limit.
Email = Annotated[str, Field(description=f"At most {MAX_EMAIL} characters.", examples=["ada@example.com"])]
Password = Annotated[
    str,
    Field(description=f"{MIN_PASSWORD} to {MAX_PASSWORD} characters.", examples=["correct horse battery"]),
]
UserId = Annotated[str, Path(max_length=64, description="As in the list.", examples=["k3x9a0b1c2d4"])]


class UserBody(BaseModel):
    id: str = Field(examples=["k3x9a0b1c2d4"])
    email: str = Field(examples=["ada@example.com"])
    role: Role
    created_at: datetime


class UserList(BaseModel):
    users: list[UserBody]


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Email
    role: Role = Role.MEMBER
    password: Password | None = Field(None, description="Left out: one is made and shown in the answer.")


class CreatedUser(BaseModel):
    user: UserBody
    password: str | None = Field(description="Only when it was made here; shown once.")


class UserChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Role


class PasswordReset(BaseModel):
    model_config = ConfigDict(extra="forbid")
    password: Password | None = Field(None, description="Left out: one is made and shown in the answer.")


class ResetDone(BaseModel):
    password: str | None = Field(description="Only when it was made here; shown once.")


def user_body(user: User) -> UserBody:
    return UserBody(id=user.id, email=user.email, role=user.role, created_at=from_ns(user.created_at))


def create_router(accounts: Accounts) -> APIRouter:
    router = APIRouter(tags=["users"], dependencies=[Depends(allowed(Action.USERS))], responses=errors(401, 403, 503))

    @router.get("/users", summary="List accounts")
    async def list_users() -> UserList:
        """All accounts, by e-mail address."""
        return UserList(users=[user_body(user) for user in await accounts.users.list()])

    @router.post("/users", summary="Make an account", status_code=201, responses=errors(400, 409))
    async def create_user(body: NewUser, response: Response) -> CreatedUser:
        """With the password given, or with one that is made here and shown in the answer, once."""
        response.headers["Cache-Control"] = "no-store"
        made = secrets.token_urlsafe(15) if body.password is None else None
        user = await accounts.users.create(body.email, made or body.password or "", role=body.role)
        return CreatedUser(user=user_body(user), password=made)

    @router.get("/users/{user_id}", summary="One account", responses=errors(400, 404))
    async def get_user(user_id: UserId) -> UserBody:
        """Its e-mail address, role and age."""
        return user_body(await accounts.users.get(user_id))

    @router.patch("/users/{user_id}", summary="Change a role", responses=errors(400, 404, 409))
    async def change_user(user_id: UserId, body: UserChange) -> UserBody:
        """At once for all sessions and keys of the account. The last admin stays one (409)."""
        return user_body(await accounts.users.set_role(user_id, body.role))

    @router.post("/users/{user_id}/password", summary="Reset a password", responses=errors(400, 404))
    async def reset_password(user_id: UserId, body: PasswordReset, response: Response) -> ResetDone:
        """Set another password and end the account's sessions."""
        response.headers["Cache-Control"] = "no-store"
        made = secrets.token_urlsafe(15) if body.password is None else None
        await accounts.users.reset_password(user_id, made or body.password or "")
        return ResetDone(password=made)

    @router.delete("/users/{user_id}", summary="Remove an account", status_code=204, responses=errors(400, 404, 409))
    async def delete_user(user_id: UserId) -> None:
        """Its sessions end and its keys are revoked. The last admin stays (409)."""
        await accounts.users.delete(user_id)

    return router
