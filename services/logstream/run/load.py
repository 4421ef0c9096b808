"""From what is given to one process's settings, with every problem by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from logstream.errors import StartupError
from logstream.run import sources
from logstream.run.settings import ProcessSettings, wrong_together
from logstream.run.sources import Given, Values

P = TypeVar("P", bound=ProcessSettings)


class WrongSettings(StartupError):
    """`problems`: one line each, with the setting's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Loaded(Generic[P]):
    """`given`: what did not come from a default, of this process's sections. `warnings`: what was not understood."""

    settings: P
    given: Values
    warnings: list[str] = field(default_factory=list)


def load(kind: type[P], *, environ: Mapping[str, str], path: Path | None = None) -> Loaded[P]:
    """The settings of a process: the environment, then the file at `path`, then defaults.

    Raises WrongSettings with everything that is wrong, not only the first.
    """
    problems: list[str] = []
    warnings: list[str] = []
    given = {} if path is None else sources.file(path, problems)
    given |= sources.environment(environ, problems, warnings)
    parts: dict[str, Any] = {}
    own: set[str] = set()
    for name, info in kind.model_fields.items():
        part = sources.nested(info.annotation)
        if part is None:
            raise TypeError(f"{kind.__name__}.{name} is no settings class")
        is_optional = type(None) in get_args(info.annotation)
        if is_optional and not any(section == sources.section_of(part) for section, _ in given):
            continue
        parts[name] = _build(part, given, problems, own)
    problems += wrong_together(parts)
    if problems:
        raise WrongSettings(problems)
    settings = kind(**parts)
    return Loaded(settings, {place: value for place, value in given.items() if place[0] in own}, warnings)


def _build(kind: type[BaseSettings], given: Values, problems: list[str], own: set[str]) -> BaseSettings | None:
    """An instance of `kind`, from `given` and defaults alone; None and a word in `problems` when it is wrong."""
    section = sources.section_of(kind)
    own.add(section)
    values: dict[str, Any] = {}
    for name, info in kind.model_fields.items():
        if (part := sources.nested(info.annotation)) is not None:
            values[name] = _build(part, given, problems, own)
        elif (section, name) in given:
            values[name] = given[section, name].value
    try:
        return _pure(kind)(**values)
    except ValidationError as error:
        told = (
            _problem(section, found["loc"], _reason(found["msg"]), given)
            for found in error.errors(include_input=False, include_url=False)
        )
        problems.extend(text for text in told if text)
        return None


def _problem(section: str, location: tuple[int | str, ...], reason: str, given: Values) -> str:
    if not location:
        return f"{section}: {reason}"
    source = given.get((section, str(location[0])))
    if source is None and reason.startswith("Input should be a valid dictionary"):
        return ""  # A nested part that is None was wrong itself, and has said so.
    name = ".".join((section, *map(str, location)))
    return f"{name} ({source.source if source else 'default'}): {reason}"


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


@cache
def _pure(kind: type[BaseSettings]) -> type[BaseSettings]:
    """`kind`, but without a look at the environment of its own: that was done, by rules of ours."""

    class Pure(kind):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    Pure.__name__ = Pure.__qualname__ = kind.__name__
    return Pure


__all__ = ["Given", "Loaded", "WrongSettings", "load"]
