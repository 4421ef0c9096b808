"""kubectl does the talking to the API server: contexts, log-ins, proxies and certificates are as its user has them."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from logstream.cli.failure import Failure
from logstream_kubectl.resources import LOGSTREAM, Object, word

MANAGER = "kubectl-logstream"
"""The field manager of what is changed."""
REQUEST_TIMEOUT = "20s"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Kubectl:
    """flags: kubectl's own, by name without dashes, such as {"namespace": "shop"}."""

    flags: Mapping[str, str] = field(default_factory=dict)

    def get(self, kind: str, name: str) -> Object:
        """Raises Failure, with the names that there are where there is no such object."""
        found: Object = self._ask("get", kind, checked(name, kind))
        return found

    def all(self, kind: str, *, everywhere: bool = False, labels: str = "") -> Sequence[Object]:
        """By namespace and name. Raises Failure."""
        options = (["--all-namespaces"] if everywhere else []) + ([f"--selector={labels}"] if labels else [])
        items: list[Object] = self._ask("get", kind, *options)["items"]
        return items

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> Object:
        """A JSON merge patch; the object then. Raises Failure."""
        changed: Object = self._ask(
            "patch",
            kind,
            checked(name, kind),
            "--type=merge",
            f"--field-manager={MANAGER}",
            f"--patch={json.dumps(change)}",
        )
        return changed

    def namespace(self) -> str:
        """The one that is worked in, for people."""
        if chosen := self.flags.get("namespace"):
            return chosen
        known = [f"--{name}={value}" for name, value in self.flags.items() if name in {"context", "kubeconfig"}]
        done = subprocess.run(
            [program(), "config", "view", "--minify", "--output=jsonpath={..namespace}", *known],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or "default"

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of `kubectl arguments…`. Raises Failure when there is no kubectl."""
        return [program(), *arguments, *(f"--{name}={value}" for name, value in self.flags.items())]

    def hint(self, command: str) -> str:
        """A command for a person to run next, with the namespace that this one was given."""
        chosen = self.flags.get("namespace")
        return f"{command} -n {chosen}" if chosen else command

    def _ask(self, verb: str, kind: str, *arguments: str) -> Any:
        timeout = [] if "request-timeout" in self.flags else [f"--request-timeout={REQUEST_TIMEOUT}"]
        command = self.command(verb, kind, *arguments, "--output=json", *timeout)
        # Standard input stays the person's: a plugin that logs in may ask there.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            try:
                return json.loads(done.stdout)
            except ValueError as error:
                raise Failure(f"`kubectl {verb}` did not answer in JSON; is {command[0]} kubectl?") from error
        raise self._failure(done.stderr, verb, kind, arguments)

    def _failure(self, told: str, verb: str, kind: str, arguments: Sequence[str]) -> Failure:
        if "(NotFound)" in told and arguments and not arguments[0].startswith("-") and f'"{arguments[0]}"' in told:
            return self._missing(kind, arguments[0])
        return Failure(advise(told, verb, kind))

    def _missing(self, kind: str, name: str) -> Failure:
        said = f"there is no {word(kind)} {name} in namespace {self.namespace()}"
        try:
            there = [str(found["metadata"]["name"]) for found in self.all(kind)]
        except Failure:
            return Failure(said)
        if there:
            names = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
            return Failure(f"{said} (there are: {names}); another namespace is given with -n")
        see = "; see those of all namespaces with: kubectl logstream status -A" if kind == LOGSTREAM else ""
        return Failure(f"{said}, nor any other{see}")


def program() -> str:
    """The kubectl on the PATH. Raises Failure."""
    found = shutil.which("kubectl")
    if found is None:
        raise Failure("there is no kubectl on the PATH; install it: https://kubernetes.io/docs/tasks/tools/")
    return found


def checked(name: str, kind: str) -> str:
    """`name`, which kubectl can then take for nothing else. Raises Failure."""
    if not _NAME.fullmatch(name):
        raise Failure(
            f"'{name}' is no name of a {word(kind)}: names have a-z, 0-9, '-' and '.' only, at most 253", status=2
        )
    return name


def advise(told: str, verb: str, kind: str) -> str:
    """What kubectl wrote to standard error, as one sentence with what to do next; pure."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    # Before the error, client-go may log its attempts.
    told_lines = [line for line in lines if not re.match(r"[EWI]\d{4} ", line)] or lines
    said = told_lines[-1] if told_lines else "kubectl failed without a word"
    said = re.sub(r"^(error: |Error from server \(\w+\): |Error from server: )", "", said)
    if "doesn't have a resource type" in told or "the server could not find the requested resource" in told:
        return "this cluster does not know LogStreams; install the operator with its chart: helm install logstream …"
    if "(Forbidden)" in told or "is forbidden: User" in told:
        plural, _, group = kind.partition(".")
        what = f"{verb} {plural}.{group}" if group else f"{verb} {plural}"
        return f"{said}; ask for a role that may, and check it with: kubectl auth can-i {what}"
    if "(Unauthorized)" in told or "You must be logged in" in told:
        return f"{said}; log in to the cluster again, and check it with: kubectl auth whoami"
    if found := re.search(r'namespaces "([^"]*)" not found', told):
        return f"there is no namespace {found[1]}; see those there are with: kubectl get namespaces"
    if "does not exist" in said and "context" in said:
        return f"{said}; see those there are with: kubectl config get-contexts"
    if re.search(r"connection to the server|Unable to connect|connect: |i/o timeout|deadline exceeded", told):
        return f"the API server cannot be reached ({said}); check --context and --kubeconfig with: kubectl cluster-info"
    return said
