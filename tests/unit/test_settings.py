"""Settings are frozen, refuse what they do not know, and docs/settings.md lists each of them."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from logstream import settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
CLASSES = [
    value
    for value in vars(settings).values()
    if isinstance(value, type) and issubclass(value, BaseSettings) and value.model_config.get("env_prefix")
]


def table(kind: type[BaseSettings]) -> list[str]:
    """The rows of the document's table for one class."""
    rows = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings):
            continue
        default = "" if field.default is None else str(field.default)
        rows.append(f"| `{kind.model_config['env_prefix']}{name.upper()}` | `{default}` | {field.description or ''} |")
    return rows


@pytest.mark.parametrize("kind", CLASSES)
def test_the_document_lists_every_setting(kind: type[BaseSettings]) -> None:
    text = DOCUMENT.read_text()
    missing = [row for row in table(kind) if row not in text]
    assert not missing, "add to docs/settings.md:\n" + "\n".join(missing)


@pytest.mark.parametrize("kind", CLASSES)
def test_unknown_arguments_are_refused_and_instances_are_frozen(kind: type[BaseSettings]) -> None:
    with pytest.raises(ValidationError):
        kind(no_such_setting=1)  # type: ignore[call-arg]
    instance = kind()
    with pytest.raises(ValidationError):
        setattr(instance, next(iter(kind.model_fields)), "x")


def test_environment_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSTREAM_INGEST_MAX_RECORDS", "7")
    assert settings.CollectorSettings().limits.max_records == 7
    monkeypatch.setenv("LOGSTREAM_INGEST_MAX_RECORDS", "none")
    with pytest.raises(ValidationError, match="max_records"):
        settings.IngestLimits()
