"""Children of a resource: what is there, what is applied, what is pruned."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.kinds import CHILDREN, Kind, Object, kind_of
from logstream_operator.metrics import CHILD_WRITES

APPLIED = "logstream.dev/applied"
"""Annotation of a child: a hash of what was applied last. What we do not ask for any more is only found by it."""

Identity = tuple[str, str]
"""Kind and name, within one namespace."""
Keep = Callable[[Object, Mapping[Identity, Object]], bool]
"""Takes a child that is not wanted any more, and all there are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """live: every child as it is now. taken_from: by child, field managers that had set fields of ours.
    changed: children that were written or deleted."""

    live: Mapping[Identity, Object]
    taken_from: Mapping[Identity, Sequence[str]] = field(default_factory=dict)
    changed: Sequence[Identity] = ()


def identity(obj: Mapping[str, Any]) -> Identity:
    return str(obj["kind"]), str(obj["metadata"]["name"])


def sealed(obj: Object) -> Object:
    """The object with the hash of itself."""
    digest = hashlib.sha256(json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
    meta = obj["metadata"]
    return {**obj, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), APPLIED: digest}}}


def holds(wanted: Any, live: Any) -> bool:
    """Whether `live` has everything of `wanted`. It may have more: defaults, and what others added.

    Lists must have the same length and order, but for lists of named things, where others may have put more in.
    A value that the API server writes in another form ("1000m" as "1") counts as different: it is applied again.
    """
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            holds(value, live.get(key)) for key, value in wanted.items() if value not in (None, {}, [])
        )
    if isinstance(wanted, list):
        if not isinstance(live, list):
            return False
        if wanted and all(isinstance(item, dict) and "name" in item for item in wanted):
            named = {item.get("name"): item for item in live if isinstance(item, dict)}
            return all(holds(item, named.get(item["name"])) for item in wanted)
        return len(wanted) == len(live) and all(map(holds, wanted, live))
    return bool(wanted == live)


def controlled_by(obj: Mapping[str, Any], uid: str) -> bool:
    """Whether the resource with this uid is its controller."""
    owners = obj["metadata"].get("ownerReferences", ())
    return any(owner.get("uid") == uid and owner.get("controller") for owner in owners)


async def observe(
    cluster: Cluster, namespace: str, labels: str, kinds: Sequence[Kind] = CHILDREN
) -> dict[Identity, Object]:
    """Every child there is. labels: the selector that ours have in common."""
    lists = await asyncio.gather(*(cluster.list(kind, namespace, labels=labels) for kind in kinds))
    return {identity(obj): obj for found in lists for obj in found}


async def settle(
    cluster: Cluster,
    wanted: Sequence[Object],
    live: Mapping[Identity, Object],
    *,
    owner_uid: str,
    keep: Keep | None = None,
    wrote: Callable[[Object], None] = lambda _: None,
) -> Outcome:
    """Make children be as `wanted`, and no others. What is as it should be is not written.

    Only what the owner controls is deleted, and not what `keep` wants to stay for now. wrote: told of each child that
    was written, as it is now. Raises what `Cluster` raises.
    """
    now = dict(live)
    taken_from: dict[Identity, Sequence[str]] = {}
    changed: list[Identity] = []
    for obj in map(sealed, wanted):
        found = live.get(identity(obj))
        if found is not None and found["metadata"].get("deletionTimestamp") is None and holds(obj, found):
            continue
        applied = await cluster.apply(obj)
        wrote(applied.obj)
        now[identity(obj)] = applied.obj
        before = found["metadata"]["resourceVersion"] if found is not None else None
        if applied.obj["metadata"]["resourceVersion"] != before:
            changed.append(identity(obj))
            CHILD_WRITES.labels(obj["kind"], "apply").inc()
        if applied.taken_from:
            taken_from[identity(obj)] = applied.taken_from
    desired = {identity(obj) for obj in wanted}
    for key, obj in live.items():
        if key in desired or not controlled_by(obj, owner_uid) or obj["metadata"].get("deletionTimestamp"):
            continue
        if keep is not None and keep(obj, now):
            continue
        meta = obj["metadata"]
        await cluster.delete(kind_of(obj), meta["namespace"], meta["name"], uid=meta["uid"])
        CHILD_WRITES.labels(obj["kind"], "delete").inc()
        now.pop(key, None)
        changed.append(key)
    return Outcome(now, taken_from, changed)
