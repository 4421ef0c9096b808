"""Tables with colours, and resources as JSON and YAML."""

import json
import sys
from collections.abc import Iterable, Sequence

from logstream.cli import output
from logstream.cli.failure import Failure
from logstream_kubectl.options import Form
from logstream_kubectl.resources import Object

Cell = str | tuple[str, str]
"""Text, or text and a style of Rich's."""
GOOD, BAD, WARN, DIM, BOLD = "green", "bold red", "yellow", "dim", "bold"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, indent: int = 0) -> None:
    """In a terminal as wide as that, else a line for each row. Of a column without any value nothing is shown."""
    for line in lines(columns, rows):
        output.write(" " * indent + line)


def lines(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """The lines of a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = [[cell if isinstance(cell, tuple) else (cell, "") for cell in row] for row in rows]
    shown = [index for index in range(len(columns)) if any(row[index][0] not in ("", "-") for row in made)]
    wide = not output.in_terminal()
    console = Console(
        highlight=False, soft_wrap=wide, width=4096 if wide else output.width() - 2, no_color=not output.colourful()
    )
    whole = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=BOLD)
    for index in shown:
        # People copy from the first column, and read sentences in the last.
        whole.add_column(columns[index].upper(), overflow="fold", no_wrap=wide or index == 0)
    for row in made:
        whole.add_row(*(Text(output.clean(row[index][0]), style=row[index][1]) for index in shown))
    with console.capture() as captured:
        console.print(whole)
    return [line.rstrip() for line in captured.get().splitlines()]


def paint(text: str, style: str) -> str:
    """Text for a line of its own."""
    codes = {GOOD: "32", BAD: "1;31", WARN: "33", DIM: "2", BOLD: "1"}
    return output.paint(output.clean(text), codes[style], colour=output.colourful())


def show(objects: Sequence[Object], form: Form, *, one: bool = False) -> None:
    """Resources as kubectl prints them: a List, or one alone. Raises Failure."""
    shown = [_plain(obj) for obj in objects]
    whole: object = shown[0] if one else {"apiVersion": "v1", "kind": "List", "items": shown}
    dump(whole, form)


def dump(value: object, form: Form) -> None:
    """Raises Failure."""
    if form is Form.JSON:
        # ASCII: nothing in it can steer a terminal.
        output.write(json.dumps(value, indent=4))
        return
    try:
        import yaml
    except ModuleNotFoundError:
        raise Failure("-o yaml needs the package PyYAML: pip install pyyaml; or take -o json") from None
    output.write(yaml.safe_dump(value, sort_keys=False, width=sys.maxsize).rstrip("\n"))


def _plain(obj: Object) -> Object:
    """Without what only the API server needs, as `kubectl get` leaves it out."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}
