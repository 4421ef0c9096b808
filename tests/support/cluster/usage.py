"""What a ServiceAccount asked the API server for, read from the audit log."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FORBIDDEN = 403


@dataclass(frozen=True, slots=True, order=True)
class Use:
    """One sort of request.

    resource: as RBAC writes it, with the group in front, such as "secrets", "apps/deployments",
    "apps/deployments/scale"; a path such as "/version" when it is not about a resource. namespace: empty for what
    is of no namespace or of all of them.
    """

    verb: str
    resource: str
    namespace: str
    allowed: bool


class Usage:
    """Uses and how many requests there were of each. `str` is a readable table."""

    def __init__(self, counts: Counter[Use]) -> None:
        self.counts = counts

    @property
    def requests(self) -> int:
        return self.counts.total()

    @property
    def refused(self) -> set[Use]:
        """What RBAC did not allow."""
        return {use for use in self.counts if not use.allowed}

    @property
    def rights(self) -> set[tuple[str, str]]:
        """Verb and resource of all that was allowed: what a Role has to grant."""
        return {(use.verb, use.resource) for use in self.counts if use.allowed}

    def __str__(self) -> str:
        lines = []
        for use, count in sorted(self.counts.items()):
            end = "" if use.allowed else "  REFUSED"
            lines.append(f"{use.verb:<16} {use.resource:<44} {use.namespace or '-':<28} {count:>6}{end}")
        return "\n".join(lines) or "no requests"


def read(lines: Iterable[str], user: str) -> Usage:
    """The usage of `user` ("system:serviceaccount:NAMESPACE:NAME") in lines of an audit log.

    A last line that is still being written is left out.
    """
    counts: Counter[Use] = Counter()
    told: set[str] = set()
    for line in lines:
        # Parsing is what takes time, and most lines are of others.
        if f'"{user}"' not in line or not line.endswith("\n"):
            continue
        event = json.loads(line)
        # A watch is told of when it starts and when it ends.
        if event["user"]["username"] == user and event["auditID"] not in told:
            told.add(event["auditID"])
            counts[_use(event)] += 1
    return Usage(counts)


def _use(event: dict[str, Any]) -> Use:
    about = event.get("objectRef")
    if about is None:
        resource, namespace = event["requestURI"].partition("?")[0], ""
    else:
        parts = (about.get("apiGroup"), about.get("resource"), about.get("subresource"))
        resource, namespace = "/".join(part for part in parts if part), about.get("namespace", "")
    return Use(event["verb"], resource, namespace, event.get("responseStatus", {}).get("code") != FORBIDDEN)
