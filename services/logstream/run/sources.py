"""Where values come from: the environment, files that it names, a settings file, and what is known of each field.

A setting has one name, written in two ways: `section.field` in a file, `LOGSTREAM_SECTION_FIELD` in the environment.
`…_FILE` behind either names a file that holds the value, for secrets that are mounted.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings

from logstream import settings

PREFIX = "LOGSTREAM_"
MAX_FILE_BYTES = 1024 * 1024
"""Of a settings file or a file that holds a value."""

# What Kubernetes puts into a pod's environment for a Service called logstream-…: LOGSTREAM_API_PORT=tcp://10.0.0.1:80.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.+:\d+")
# Of the command line and of the supervisor, in no section.
_ELSEWHERE = {"API_KEY", "API_URL", "CACHE", "CONFIG", "CONTEXT", "INGEST_URL", "UP_HANG_SECONDS"}


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody gave it. source: for people, e.g. `LOGSTREAM_KAFKA_PARTITIONS`."""

    value: Any
    source: str


Values = dict[tuple[str, str], Given]
"""By section and field."""


def section_of(kind: type[BaseSettings]) -> str:
    """The section of a settings class: its prefix without LOGSTREAM_, in small letters."""
    return str(kind.model_config.get("env_prefix", ""))[len(PREFIX) : -1].lower()


@cache
def sections() -> Mapping[str, type[BaseSettings]]:
    """All sections there are, whichever process they belong to: one file may serve them all."""
    found = [
        kind for kind in vars(settings).values()
        if isinstance(kind, type) and issubclass(kind, BaseSettings) and kind.model_config.get("env_prefix")
    ]  # fmt: skip
    return {section_of(kind): kind for kind in found}


def plain_fields(kind: type[BaseModel]) -> Iterator[str]:
    """Fields of the class's own section; nested classes have a section of their own."""
    for name, field in kind.model_fields.items():
        if not nested(field.annotation):
            yield name


def nested(annotation: Any) -> type[BaseSettings] | None:
    """The settings class that a field of this type holds, also when it may be None."""
    for kind in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,):
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            return kind
    return None


def is_secret(kind: type[BaseModel], field: str) -> bool:
    """Whether the field's value is never shown."""
    info = kind.model_fields[field]
    types = (info.annotation, *get_args(info.annotation))
    return SecretStr in types or info.repr is False


# The environment


def environment(environ: Mapping[str, str], problems: list[str], warnings: list[str]) -> Values:
    """What the environment gives, files that it names included. Unknown names only warn: others may mean them."""
    given = {name.upper(): value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    found: Values = {}
    for name, text in sorted(given.items()):
        if _SERVICE_LINK.search(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.fullmatch(text)):
            continue
        place = _place(name[len(PREFIX) :].lower())
        if place is None:
            if name[len(PREFIX) :] not in _ELSEWHERE:
                warnings.append(f"{name} is no setting of this release{_like(name, _all_names())}")
            continue
        section, field, is_file = place
        if is_file:
            if name.removesuffix("_FILE") in given:
                problems.append(f"{name.removesuffix('_FILE')} and {name} are both given: take one away")
            elif (content := _content(Path(text), name, problems)) is not None:
                found[section, field] = Given(content, f"{text} ({name})")
        else:
            found[section, field] = Given(_parsed(section, field, text, name, problems), name)
    return found


def _place(name: str) -> tuple[str, str, bool] | None:
    """Section, field and whether the value is in a file, of a variable's name without its prefix."""
    for section, kind in sections().items():
        if name.startswith(section + "_"):
            field = name[len(section) + 1 :]
            names = set(plain_fields(kind))
            if field in names:
                return section, field, False
            if field.removesuffix("_file") in names:
                return section, field.removesuffix("_file"), True
    return None


def _parsed(section: str, field: str, text: str, name: str, problems: list[str]) -> Any:
    """Lists are JSON or separated by commas; all else is read by the field itself."""
    annotation = sections()[section].model_fields[field].annotation
    if not any(get_origin(kind) in (tuple, list, dict) for kind in (annotation, *get_args(annotation))):
        return text
    if text.lstrip()[:1] not in ("[", "{"):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        problems.append(f"{name} is no JSON: {error}")
        return []


def _content(path: Path, name: str, problems: list[str]) -> str | None:
    """What the file holds, without the line's end that editors leave."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        problems.append(f"{name}: cannot read {path}: {error.strerror or error}")
    except ValueError as error:
        problems.append(f"{name}: cannot use {path}: {'no UTF-8' if isinstance(error, UnicodeError) else error}")
    return None


# The file


class _Loader(yaml.SafeLoader):
    """YAML's safe types; a name that comes twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name, (key, _) in zip(names, node.value, strict=True):
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def file(path: Path, problems: list[str]) -> Values:
    """What a settings file (YAML, and so JSON) gives. Every name in it must be known."""
    text = _content(path, "--config", problems)
    if text is None:
        return {}
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 — derived from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problems.append(f"{path}{where}: no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}")
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path}: must hold sections ({', '.join(sections())})")
        return {}
    found: Values = {}
    for section, values in content.items():
        if section not in sections():
            problems.append(f"{path}: there is no section {section!r}{_like(str(section), list(sections()))}")
        elif values is not None and not isinstance(values, dict):
            problems.append(f"{path}: {section} must hold fields, as in {section}: {{field: value}}")
        else:
            _read_section(path, section, values or {}, found, problems)
    return found


def _read_section(path: Path, section: str, values: dict[Any, Any], found: Values, problems: list[str]) -> None:
    names = list(plain_fields(sections()[section]))
    for field, value in values.items():
        plain = str(field).removesuffix("_file")
        if field in names:
            found[section, field] = Given(value, str(path))
        elif plain in names:
            if plain in values:
                problems.append(f"{path}: {section}.{plain} and {section}.{field} are both given: take one away")
            elif (content := _content(Path(str(value)), f"{section}.{field}", problems)) is not None:
                found[section, plain] = Given(content, f"{value} ({section}.{field} in {path})")
        else:
            problems.append(f"{path}: there is no field {section}.{field}{_like(str(field), names)}")


def _all_names() -> list[str]:
    return [
        f"{PREFIX}{section}_{field}".upper() for section, kind in sections().items() for field in plain_fields(kind)
    ]


def _like(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.8)
    return f"; do you mean {close[0]}?" if close else ""
