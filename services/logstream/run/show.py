"""A process's settings as text: YAML that `--config` takes, where each value came from beside it, secrets masked."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from logstream.run import sources
from logstream.run.load import Loaded, P
from logstream.run.sources import Values

# Up to the last @ of an address: a password may hold what it should not, and is hidden rather with a host too many.
_PASSWORD_IN_URL = re.compile(r"(://[^:/@\s]*:)(?:(?!://).)+(?=@)|([?&](?:password|sslpassword)=)[^&\s\"]+")
MASK = "***"


def lines(loaded: Loaded[P]) -> Iterator[str]:
    """One line a setting."""
    for name in type(loaded.settings).model_fields:
        part = getattr(loaded.settings, name)
        if part is None:
            yield f"# {name}: not given"
        else:
            yield from _section(part, loaded.given)


def _section(part: BaseSettings, given: Values) -> Iterator[str]:
    kind = type(part)
    section = sources.section_of(kind)
    yield f"{section}:"
    for field in sources.plain_fields(kind):
        found = given.get((section, field))
        yield f"  {field}: {_text(part, field)}  # {found.source if found else 'default'}"
    for field, info in kind.model_fields.items():
        if sources.nested(info.annotation) and isinstance(value := getattr(part, field), BaseSettings):
            yield from _section(value, given)


def _text(part: BaseSettings, field: str) -> str:
    value = part.model_dump(mode="python")[field]
    if sources.is_secret(type(part), field):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(plain, str) or "://" not in plain:
            return json.dumps(MASK if plain else plain)
        value = plain  # An address that may hold a password.
    return masked(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> Any:
    return MASK if isinstance(value, SecretStr) else str(value)


def masked(text: str) -> str:
    """`text` without the passwords of URLs in it."""
    return _PASSWORD_IN_URL.sub(lambda found: f"{found[1] or found[2]}{MASK}", text)
