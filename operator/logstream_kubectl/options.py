"""Options that commands share: kubectl's own, the form of results, the way to a stream."""

import copy
from enum import StrEnum
from functools import cache
from typing import Annotated, Any

import typer

from logstream_kubectl.kubectl import Kubectl

_META = "logstream_kubectl.flags"


class Form(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Form, typer.Option("--output", "-o", help="table for people; json or yaml as kubectl prints them.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")]
StreamName = Annotated[str, typer.Argument(metavar="STREAM", help="Name of the LogStream.")]


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Options nearer to the command win, wherever they stand on the line."""
    if value is not None:
        context.meta.setdefault(_META, {})[str(parameter.name).replace("_", "-")] = value
    return value


def _option(*names: str, help: str, metavar: str = "TEXT") -> Any:  # noqa: A002 — as Typer calls it
    return typer.Option(*names, help=help, metavar=metavar, expose_value=False, callback=_keep, show_default=False)


def _flags(
    *,
    namespace: Annotated[str | None, _option("--namespace", "-n", help="Namespace. Default: the context's.")] = None,
    context: Annotated[str | None, _option("--context", help="Context of the kubeconfig.")] = None,
    kubeconfig: Annotated[str | None, _option("--kubeconfig", metavar="FILE", help="The kubeconfig.")] = None,
    cluster: Annotated[str | None, _option("--cluster", help="Cluster of the kubeconfig.")] = None,
    user: Annotated[str | None, _option("--user", help="User of the kubeconfig.")] = None,
    impersonate: Annotated[str | None, _option("--as", help="Whom to impersonate.")] = None,
    request_timeout: Annotated[
        str | None, _option("--request-timeout", help="Of each request to the API server, such as 5s. Default: 20s.")
    ] = None,
) -> None: ...


@cache
def _parameters() -> tuple[Any, ...]:
    made = typer.Typer(add_completion=False)
    made.command()(_flags)
    return tuple(parameter for parameter in typer.main.get_command(made).params if parameter.name != "help")


def equip(command: Any) -> Any:
    """`command` and all below it, with kubectl's options."""
    command.params = [*command.params, *map(copy.copy, _parameters())]
    for child in getattr(command, "commands", {}).values():
        equip(child)
    return command


def kubectl(context: Any) -> Kubectl:
    """As the options of the line ask for."""
    flags = dict(context.meta.get(_META, {}))
    if "impersonate" in flags:
        flags["as"] = flags.pop("impersonate")
    return Kubectl(flags)
