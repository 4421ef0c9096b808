"""`tail`, `search` and `deadletters`: the commands of `logstream`, with all their options, for a LogStream.

Each is the command line's own command. It loses what says where and as whom, and gains STREAM, the way there and
kubectl's options; `-n` is kubectl's.
"""

import copy
import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from logstream.cli import deadletters, search, tail
from logstream_kubectl.options import StreamName, kubectl
from logstream_kubectl.reach import reach

_OURS = ("stream", "context", "api_key", "api_url")
"""Parameters of the command line's that are found out here."""
_SHORT = "-n"
EXAMPLE = "shop"


def _way(
    logstream: StreamName,
    as_key: Annotated[
        str | None,
        typer.Option("--as-key", help="LogStreamAPIKey whose key is used. Default: one that may do it and works."),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of the API, such as its Ingress, instead of a forwarded port.")
    ] = None,
) -> None: ...


class _Asking(TyperCommand):
    """scope: what the key must be allowed to do."""

    scope = "read"

    def invoke(self, ctx: Any) -> Any:
        """Raises Failure."""
        stream = ctx.params.pop("logstream", None) or ctx.parent.params["logstream"]
        key, url = ctx.params.pop("as_key"), ctx.params.pop("url")
        with reach(kubectl(ctx), stream, self.scope, key=key, url=url) as reached:
            ctx.params.update(stream=stream, context=None, api_key=reached.api_key, api_url=reached.url)
            return super().invoke(ctx)


class _Administering(_Asking):
    scope = "admin"


def tail_command() -> TyperCommand:
    return _asking(_Asking, _found(tail.tail), "tail", f"tail {EXAMPLE}")


def search_command() -> TyperCommand:
    return _asking(_Asking, _found(search.search), "search", f"search {EXAMPLE}")


def deadletters_command() -> TyperGroup:
    """A group behind STREAM: `deadletters STREAM list`."""
    made = typer.Typer(add_completion=False)
    made.add_typer(deadletters.deadletters, name="deadletters")
    # A Typer of one group alone has it as its only command only with a callback.
    made.callback()(lambda: None)
    whole = typer.main.get_command(made).commands["deadletters"]  # type: ignore[attr-defined]
    commands: Any = {
        name: _asking(_Administering, command, f"deadletters {name}", f"deadletters {EXAMPLE} {name}", placed=False)
        for name, command in whole.commands.items()
    }
    return TyperGroup(
        name="deadletters",
        commands=commands,
        params=[parameter for parameter in _ways() if parameter.name == "logstream"],
        help=_rewritten(whole.help or "", "deadletters", f"deadletters {EXAMPLE}"),
        no_args_is_help=True,
        rich_markup_mode=None,
        subcommand_metavar="COMMAND [ARGS]...",
    )


def _found(function: Any) -> Any:
    made = typer.Typer(add_completion=False)
    made.command()(function)
    return typer.main.get_command(made)


def _ways() -> list[Any]:
    return [parameter for parameter in _found(_way).params if parameter.name != "help"]


def _asking(kind: type[_Asking], command: Any, said: str, now: str, *, placed: bool = True) -> _Asking:
    """`command` for a LogStream. said, now: what its examples call it, and what they are to call it. placed: STREAM is
    an argument of this command, not of the group above."""
    ways = [parameter for parameter in _ways() if placed or parameter.name != "logstream"]
    first = [parameter for parameter in ways if parameter.name == "logstream"]
    kept = [_without_short(parameter) for parameter in command.params if parameter.name not in _OURS]
    return kind(
        name=said.rpartition(" ")[2],
        callback=command.callback,
        params=[*first, *kept, *(parameter for parameter in ways if parameter not in first)],
        help=_rewritten(command.help or "", said, now),
        rich_markup_mode=None,
    )


def _without_short(parameter: Any) -> Any:
    if _SHORT not in parameter.opts:
        return parameter
    made = copy.copy(parameter)
    made.opts = [name for name in parameter.opts if name != _SHORT]
    return made


def _rewritten(text: str, said: str, now: str) -> str:
    """Help whose examples are those of the plugin."""
    made = re.sub(rf"^(\s*(?:Examples?: )?)logstream {said}\b", rf"\1kubectl logstream {now}", text, flags=re.MULTILINE)
    return made.replace(f" {_SHORT} ", " --limit ")
