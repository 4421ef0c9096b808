"""A LogStreamAPIKey: a key in a Secret, made, replaced and ended so that a crash between any two steps does no harm.

A new key is written to a Secret of its own first (`…-pending`, which only one can create), then its hash is
registered, a collector asked whether it lets it in, and only then it is put into the Secret that programs read; the
one before ends after the overlap, and the pending Secret goes. Every step looks at what is there and can be done
again, so whoever comes after a crash goes on where it broke off, with the same key.
"""

from dataclasses import dataclass
from typing import Any

from logstream.auth.accounts import Accounts
from logstream.auth.api_keys import ApiKey
from logstream.auth.keys import make_key, same
from logstream.auth.principal import Quota
from logstream.errors import LogStreamError, Unavailable
from logstream.logs import get_logger
from logstream_operator.cluster.errors import ClusterAway, ClusterRefused, Missing, Outdated
from logstream_operator.cluster.kinds import API_KEY, LOGSTREAM, SECRET, Object
from logstream_operator.external.problem import Refused, reason_of
from logstream_operator.queue import Forgotten
from logstream_operator.reconcile import confirm, secret
from logstream_operator.reconcile.connect import Database, connect
from logstream_operator.reconcile.context import Context, Key, make_accounts
from logstream_operator.reconcile.deletion import ATTEMPTS, FINALIZER, StillThere, holds_finalizer
from logstream_operator.reconcile.report import KeySeen, write_invalid, write_key_status
from logstream_operator.reconcile.rotation import Wanted, end_of_previous, next_look, wanted, why_new
from logstream_operator.spec import InvalidSpec, LogStream, LogStreamAPIKey

CONFIRM_AGAIN_SECONDS = 0.5
LOOK_SECONDS = 60.0

_log = get_logger("operator")


class KeyUnfinished(Exception):
    """It was said why: ask again, later each time."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is of a key. rows: every key that was ever registered for this resource and is not revoked."""

    current: secret.KeySecret | None
    pending: secret.KeySecret | None
    rows: dict[str, ApiKey]
    digests: dict[str, bytes]

    def row_of(self, held: secret.KeySecret | None) -> ApiKey | None:
        """The registered key that a Secret holds; None when it holds another secret than the registered one."""
        if held is None or held.key_id not in self.rows:
            return None
        return self.rows[held.key_id] if same(self.digests[held.key_id], held.digest) else None


@dataclass(frozen=True, slots=True)
class _Work:
    context: Context
    obj: Object
    resource: LogStreamAPIKey
    plane: str
    accounts: Accounts
    ask: confirm.Ask | None

    @property
    def name(self) -> str:
        """Of its keys in the accounts: for people, and to find them by."""
        return f"{self.resource.name[:60]} {self.resource.uid}"

    @property
    def stream(self) -> str:
        return self.resource.spec.log_stream_ref.name

    def now(self) -> int:
        return self.context.clock.now_ns()


async def reconcile_key(context: Context, key: Key, *, ask: confirm.Ask | None = None) -> float | None:
    """Seconds until it is to be looked at again. ask: instead of a request to a collector, for tests.

    Raises Forgotten, KeyUnfinished, StillThere, ClusterAway, ClusterRefused.
    """
    obj = await context.cluster.get(API_KEY, key.namespace, key.name)
    if obj is None:
        context.known.keys.pop((key.namespace, key.name), None)
        raise Forgotten
    obj = {"apiVersion": API_KEY.api_version, "kind": API_KEY.name, **obj}
    try:
        resource = LogStreamAPIKey.parse(obj)
    except InvalidSpec as error:
        if obj["metadata"].get("deletionTimestamp"):
            await _keep_finalizer(context, obj, keep=False)
            raise Forgotten from None
        await write_invalid(context, obj, error, kind=API_KEY)
        return None
    if resource.is_deleted:
        if holds_finalizer(obj):
            await _finalize(context, obj, resource)
        raise Forgotten
    try:
        return await _bring_about(context, obj, resource, ask)
    except (ClusterAway, Outdated):
        raise
    except LogStreamError as error:
        reason = "KubernetesRefused" if isinstance(error, ClusterRefused) else reason_of(error, "Postgres")
        problem = InvalidSpec(error.message, field=error.field or "", reason=reason)
        await write_invalid(context, obj, problem, kind=API_KEY)
        if isinstance(error, Unavailable) or getattr(error, "reason", "") in ("StreamMissing", "StreamNotReady"):
            raise KeyUnfinished(error.message) from error
        # It may be mended where nobody tells, such as a Secret in the way.
        return LOOK_SECONDS


async def _bring_about(
    context: Context, obj: Object, resource: LogStreamAPIKey, ask: confirm.Ask | None
) -> float | None:
    stream, plane, plane_obj = await _stream(context, resource)
    if not holds_finalizer(obj):
        obj = await _keep_finalizer(context, obj, keep=True)
    connected = await connect(context, plane, plane_obj)
    database = connected.database
    if isinstance(database, LogStreamError):
        raise database
    not_ready = Refused("StreamNotReady", f"LogStream {stream.name} is not in the accounts yet: see its conditions")
    async with context.accounts.use(
        (database.url, database.password), lambda: _accounts(context, database, not_ready)
    ) as accounts:
        if not await accounts.streams.there(stream.stream()):
            raise not_ready
        work = _Work(context, obj, resource, plane.name, accounts, ask)
        if resource.spec.revoked:
            await _revoke(work)
            return None
        return await _renew(work, wanted(resource))


async def _accounts(context: Context, database: Database, not_ready: Refused) -> Accounts:
    try:
        return await make_accounts(database.url, database.password, context.clock)
    except Refused:
        # The data plane's own reconcile makes database and role.
        if database.managed is not None:
            raise not_ready from None
        raise


async def _stream(context: Context, resource: LogStreamAPIKey) -> tuple[LogStream, LogStream, Object]:
    """The LogStream, and the one whose pods serve it. Raises Refused."""
    name = resource.spec.log_stream_ref.name
    field = "spec.logStreamRef.name"
    stream, obj = await _read(context, resource.namespace, name, field)
    if stream.is_data_plane:
        return stream, stream, obj
    plane, obj = await _read(context, resource.namespace, stream.data_plane, field)
    return stream, plane, obj


async def _read(context: Context, namespace: str, name: str, field: str) -> tuple[LogStream, Object]:
    found = await context.cluster.get(LOGSTREAM, namespace, name)
    if found is None or found["metadata"].get("deletionTimestamp"):
        raise Refused("StreamMissing", f"{field}: there is no LogStream {name} in this namespace", field=field)
    found = {"apiVersion": LOGSTREAM.api_version, "kind": LOGSTREAM.name, **found}
    try:
        return LogStream.parse(found), found
    except InvalidSpec as error:
        raise Refused("StreamInvalid", f"LogStream {name}: {error.message}", field=field) from error


async def _look(work: _Work) -> _Found:
    resource = work.resource
    # A foreign Secret stops everything before a key is made for it.
    current = await secret.read(work.context, resource, resource.secret_name, secret.KEY_TYPE)
    pending = await secret.read(work.context, resource, secret.pending_name(resource), secret.PENDING_TYPE)
    rows = {
        key.id: key
        for key in await work.accounts.keys.list(stream=work.stream, revoked=True)
        if key.name.endswith(f" {resource.uid}")
    }
    return _Found(current, pending, rows, dict(await work.accounts.keys.digests(work.stream)))


async def _renew(work: _Work, want: Wanted) -> float | None:
    found = await _look(work)
    current = found.row_of(found.current)
    reason = why_new(want, current, work.now())
    if want.expires_at is not None and want.expires_at <= work.now():
        # Collectors refuse it by themselves; no key is made that could not be used.
        await write_key_status(work.context, work.obj, KeySeen(work.resource, current, (), expired=True))
        return None
    pending = found.pending
    if pending is not None and not pending.key_id:
        # Somebody wrote into it; there is nothing to go on with.
        await _delete(work, pending)
        pending = None
    if reason is not None and pending is None:
        pending = await _mint(work)
        work.context.crash("pending written")
    if pending is not None:
        held = found.current is not None and found.current.key_id == pending.key_id
        if not held:
            registered = await _register(work, want, pending)
            work.context.crash("registered")
            text = pending.values[secret.KEY]
            if not await confirm.is_live(work.context, work.resource.namespace, work.plane, text, work.ask):
                await write_key_status(
                    work.context, work.obj, KeySeen(work.resource, current, (), confirming=registered.id)
                )
                return CONFIRM_AGAIN_SECONDS
            work.context.crash("confirmed")
            await _swap(work, text)
            work.context.crash("swapped")
            found = await _look(work)
            await work.context.recorder.tell(
                work.obj, "KeyMade", f"key {registered.id} is in use: {reason or 'it was begun'}"
            )
        current = found.row_of(found.current)
        if current is None:
            raise Outdated("the key's Secret was changed meanwhile", answered=409)
        await _end_previous(work, want, found, current)
        work.context.crash("previous ended")
        await _delete(work, pending)
        work.context.crash("pending deleted")
    assert current is not None
    current = await _adjust(work, want, found, current)
    previous = (
        await _end_previous(work, want, await _look(work), current)
        if pending is not None
        else _living(found, current, work.now())
    )
    await write_key_status(work.context, work.obj, KeySeen(work.resource, current, tuple(previous)))
    by_itself = next_look(want, current, previous, work.now())
    # Secrets are not watched, since nobody may list them: one that was deleted is noticed by looking.
    return LOOK_SECONDS if by_itself is None else min(by_itself, LOOK_SECONDS)


async def _mint(work: _Work) -> secret.KeySecret:
    """A key that nobody knows yet, in the pending Secret. Only one can create that: never are there two."""
    resource = work.resource
    made = make_key()
    obj = secret.make(resource, work.obj, secret.pending_name(resource), secret.PENDING_TYPE, {secret.KEY: made.text})
    written = await work.context.cluster.create(obj)
    _log.info("key_made", namespace=resource.namespace, name=resource.name, key_id=made.id)
    return secret.KeySecret(written, {secret.KEY: made.text}, made.id, made.digest)


async def _register(work: _Work, want: Wanted, pending: secret.KeySecret) -> ApiKey:
    quota = work.resource.spec.quota
    return await work.accounts.keys.register(
        pending.key_id,
        pending.digest,
        work.name,
        scopes=want.scopes,
        stream=work.stream,
        expires_at=want.expires_at,
        quota=Quota(quota.records_per_second, quota.bytes_per_second),
    )


async def _swap(work: _Work, text: str) -> None:
    resource = work.resource
    values = secret.contents(text, work.plane, resource.namespace)
    obj = secret.make(resource, work.obj, resource.secret_name, secret.KEY_TYPE, values)
    # What was there was ours when it was looked at; an apply over one that came in between would take it.
    found = await secret.read(work.context, resource, resource.secret_name, secret.KEY_TYPE)
    if found is None:
        await work.context.cluster.create(obj)
    else:
        meta = {**obj["metadata"], "resourceVersion": found.obj["metadata"]["resourceVersion"]}
        # What somebody put beside ours goes: programs take all of it into their environment.
        gone: dict[str, None] = {key: None for key in found.obj.get("data") or {} if key not in values}
        change = {"metadata": meta, "data": {**obj["data"], **gone}}
        await work.context.cluster.patch(SECRET, resource.namespace, resource.secret_name, change)


def _living(found: _Found, current: ApiKey, now: int) -> list[ApiKey]:
    return [
        key
        for key in found.rows.values()
        if key.id != current.id and key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    ]


async def _end_previous(work: _Work, want: Wanted, found: _Found, current: ApiKey) -> list[ApiKey]:
    """Give every other key its end; those that still live."""
    living: list[ApiKey] = []
    for key in _living(found, current, work.now()):
        end = end_of_previous(want, key, current, work.now())
        if end is None:
            await work.accounts.keys.revoke(key.id)
        elif end != key.expires_at:
            living.append(await work.accounts.keys.update(key.id, expires_at=end))
        else:
            living.append(key)
    return living


async def _adjust(work: _Work, want: Wanted, found: _Found, current: ApiKey) -> ApiKey:
    """What can change of a key that stays: its end, its quota, and the addresses beside it in the Secret."""
    wished = Quota(work.resource.spec.quota.records_per_second, work.resource.spec.quota.bytes_per_second)
    if (current.expires_at, current.quota) != (want.expires_at, wished):
        current = await work.accounts.keys.update(current.id, expires_at=want.expires_at, quota=wished)
    assert found.current is not None
    text = found.current.values[secret.KEY]
    if dict(found.current.values) != secret.contents(text, work.plane, work.resource.namespace):
        await _swap(work, text)
    return current


async def _revoke(work: _Work) -> None:
    """Every key of the resource, at once and for good. The Secret stays, so that pods that use it can start."""
    found = await _look(work)
    for key in found.rows.values():
        if key.revoked_at is None:
            await work.accounts.keys.revoke(key.id)
            _log.info("key_revoked", namespace=work.resource.namespace, name=work.resource.name, key_id=key.id)
    if found.pending is not None:
        await _delete(work, found.pending)
    held = found.rows.get(found.current.key_id) if found.current is not None else None
    await write_key_status(work.context, work.obj, KeySeen(work.resource, held, (), revoked=True))


async def _delete(work: _Work, held: secret.KeySecret) -> None:
    meta = held.obj["metadata"]
    await work.context.cluster.delete(SECRET, meta["namespace"], meta["name"], uid=meta["uid"])


async def _keep_finalizer(context: Context, obj: Object, *, keep: bool) -> Object:
    """As for LogStreams. Raises Outdated."""
    meta = obj["metadata"]
    finalizers = [name for name in meta.get("finalizers") or () if name != FINALIZER]
    change: dict[str, Any] = {
        "metadata": {
            "resourceVersion": meta["resourceVersion"],
            "finalizers": [*finalizers, FINALIZER] if keep else finalizers,
        }
    }
    try:
        changed = await context.cluster.patch(API_KEY, meta["namespace"], meta["name"], change)
    except Missing:
        return obj
    return {"apiVersion": API_KEY.api_version, "kind": API_KEY.name, **changed}


async def _finalize(context: Context, obj: Object, resource: LogStreamAPIKey) -> None:
    """Revoke what was registered, then let go; after a bounded number of attempts in any case."""
    try:
        stream, plane, plane_obj = await _stream(context, resource)
        connected = await connect(context, plane, plane_obj, making=False)
        database = connected.database
        if isinstance(database, LogStreamError):
            raise database
        async with context.accounts.use(
            (database.url, database.password), lambda: make_accounts(database.url, database.password, context.clock)
        ) as accounts:
            for key in await accounts.keys.list(stream=stream.name):
                if key.name.endswith(f" {resource.uid}"):
                    await accounts.keys.revoke(key.id)
    except ClusterAway:
        raise
    except LogStreamError as error:
        # With the stream its keys went, too.
        if not isinstance(error, Refused) or error.reason != "StreamMissing":
            await _count(context, obj, resource, error)
    await _keep_finalizer(context, obj, keep=False)
    context.known.keys.pop((resource.namespace, resource.name), None)


async def _count(context: Context, obj: Object, resource: LogStreamAPIKey, error: LogStreamError) -> None:
    """Raises StillThere while there are attempts left."""
    text = (obj["metadata"].get("annotations") or {}).get(ATTEMPTS, "0")
    attempts = (int(text) if text.isdigit() else 0) + 1
    if attempts < context.settings.operator.cleanup_attempts:
        change = {"metadata": {"annotations": {ATTEMPTS: str(attempts)}}}
        await context.cluster.patch(API_KEY, resource.namespace, resource.name, change)
        raise StillThere(error.message)
    note = f"gave up revoking after {attempts} attempts; it may work until its end: {error.message}"
    await context.recorder.tell(obj, "CleanupSkipped", note, warning=True, action="Delete")
