"""The first admin and the first API key, made once and shown once.

A break between making them and showing them must not leave a platform that nobody can enter: what is going to
be made is written to a hidden file first, and that file's existence means "not finished".
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from logstream.auth.accounts import Accounts
from logstream.auth.principal import Scope
from logstream.auth.roles import Role

FILE = "first-login.json"
_DRAFT = ".first-login.draft"
ADMIN_EMAIL = "admin@logstream.local"
KEY_NAME = "first key"


async def ensure(accounts: Accounts, data: Path, *, ingest_url: str, api_url: str) -> dict[str, Any] | None:
    """What first-login.json in `data` now holds, when this is the first start; else None.

    `{"admin": {"email", "password"}, "api_key", "ingest_url", "api_url"}`; the file has mode 0600 and appears
    whole. Raises OSError, Unavailable.
    """
    draft = data / _DRAFT
    users = await accounts.users.list()
    if draft.exists():
        admin = json.loads(draft.read_text())
    elif users:
        return None
    else:
        admin = {"email": ADMIN_EMAIL, "password": secrets.token_urlsafe(15)}
        _write(draft, admin)
    owner = next((user for user in users if user.email == admin["email"]), None)
    if owner is None:
        owner = await accounts.users.create(admin["email"], admin["password"], role=Role.ADMIN)
    for key in await accounts.keys.list(owner_id=owner.id):
        # Made by a start that broke off before it could show the key: nobody has it.
        await accounts.keys.revoke(key.id)
    created = await accounts.create_key(KEY_NAME, scopes=(Scope.INGEST, Scope.READ), owner_id=owner.id)
    content = {"admin": admin, "api_key": created.text, "ingest_url": ingest_url, "api_url": api_url}
    _write(data / FILE, content)
    draft.unlink(missing_ok=True)
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
