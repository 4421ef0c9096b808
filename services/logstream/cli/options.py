"""Options that many commands share."""

from enum import StrEnum
from typing import Annotated

import typer

from logstream.cli.config import Target, resolve

ContextName = Annotated[
    str | None, typer.Option("--context", help="A context of the configuration file; else the current one.")
]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="An API key (or LOGSTREAM_API_KEY).", show_default=False)]
IngestUrl = Annotated[
    str | None, typer.Option("--ingest-url", help="The collector's address (or LOGSTREAM_INGEST_URL).")
]
ApiUrl = Annotated[str | None, typer.Option("--api-url", help="The API's address (or LOGSTREAM_API_URL).")]


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"


class Rows(StrEnum):
    """How rows are printed, where csv makes sense, too."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


RowsOutput = Annotated[
    Rows,
    typer.Option("--output", "-o", help="table for people, json one array, ndjson one object a line, csv with a head."),
]
Output = Annotated[
    Format, typer.Option("--output", "-o", help="table for people, json one array, ndjson one object a line.")
]
Services = Annotated[list[str] | None, typer.Option("--service", "-s", help="Only this service; may be repeated.")]
Levels = Annotated[list[str] | None, typer.Option("--level", "-l", help="Only this level; may be repeated.")]


def api_target(context: str | None, api_key: str | None, api_url: str | None) -> Target:
    """What a command that only reads talks to."""
    return resolve(context=context, api_key=api_key, api_url=api_url)
