"""`python -m logstream_operator.spec.reference FILE`: the tables of fields in docs/resources.md, from the schemas.

Everything up to the line `## Every field` is written by hand and stays.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from logstream_operator.spec import crd
from logstream_operator.spec.schema import Schema

HEADING = "## Every field\n"


def text() -> str:
    """All after the hand-written part."""
    parts = [HEADING, "Made from the schemas; `kubectl explain logstream.spec` and so on say the same."]
    for definition in (crd.log_streams(), crd.api_keys()):
        names = definition["spec"]["names"]
        (version,) = definition["spec"]["versions"]
        root = version["schema"]["openAPIV3Schema"]
        short = ", ".join(f"`{name}`" for name in names["shortNames"])
        parts.append(f"### {names['kind']}\n\nShort name {short}.")
        for part in ("spec", "status"):
            parts.append(f"#### {names['kind']}: {part}\n")
            rows = list(_rows(root["properties"][part], ""))
            head = "| field | type | default | meaning |\n|---|---|---|---|"
            parts[-1] += "\n".join(["", head, *rows])
        messages = sorted(set(_messages(root)))
        parts.append(f"#### {names['kind']}: what is refused\n\n" + "\n".join(f"- {message}" for message in messages))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _rows(schema: Schema, path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        need = " (required)" if name in schema.get("required", ()) else ""
        default = field.get("default")
        shown = f"`{_plain(default)}`" if default is not None and default != {} else ""
        yield f"| `{here}` | {_type(field)}{need} | {shown} | {_escape(field['description'])} |"
        if field.get("type") == "array":
            yield from _rows(field["items"], f"{here}[].")
        else:
            yield from _rows(field, f"{here}.")


def _type(field: Schema) -> str:
    kind = "quantity" if field.get("x-kubernetes-int-or-string") else str(field.get("type", "any"))
    if "enum" in field:
        kind = " or ".join(f"`{value}`" if value else "empty" for value in field["enum"])
    elif field.get("format") == "date-time":
        kind = "time"
    elif kind in ("integer", "number"):
        kind = _bounds(field, kind)
    elif kind == "array":
        kind = f"list of {_type(field['items'])}, {field.get('maxItems', '')} at most"
    elif "additionalProperties" in field:
        kind = f"map of {_type(field['additionalProperties'])}, {field['maxProperties']} at most"
    return kind


def _bounds(field: Schema, kind: str) -> str:
    if field.get("exclusiveMinimum"):
        return f"{kind} above {field['minimum']:g}"
    if {"minimum", "maximum"} <= field.keys():
        return f"{kind} {field['minimum']}–{_plain(field['maximum'])}"
    return kind


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _messages(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield _escape(rule["message"])
        for value in schema.values():
            yield from _messages(value)


def _escape(words: str) -> str:
    return words.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m logstream_operator.spec.reference", description=__doc__)
    parser.add_argument("file", type=Path)
    path: Path = parser.parse_args(arguments).file
    written, heading, _ = path.read_text().partition(HEADING)
    if not heading:
        sys.stderr.write(f"{path} has no line {HEADING}")
        return 1
    path.write_text(written + text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
