"""Keys on a real API server and Postgres: made, replaced, ended; and what is left when the operator dies between."""

import asyncio
import base64
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.operator import Rig, condition

from logstream.auth.accounts import Accounts
from logstream.auth.api_keys import ApiKey
from logstream.auth.gate import Gate
from logstream.auth.keys import parse_key
from logstream.errors import LogStreamError
from logstream_operator.cluster.kinds import API_KEY, LOGSTREAM, SECRET, Object
from logstream_operator.external.accounts import open_accounts
from logstream_operator.queue import Forgotten
from logstream_operator.reconcile import keys
from logstream_operator.reconcile.connect import Database, connect
from logstream_operator.reconcile.context import Key
from logstream_operator.reconcile.keys import reconcile_key
from logstream_operator.reconcile.rotation import ROTATE
from logstream_operator.spec import LogStream

STEPS = ("pending written", "registered", "confirmed", "swapped", "previous ended", "pending deleted")


class Crash(Exception):
    """The operator was killed."""


class Keys:
    """One stream, its accounts, and keys that are reconciled when told."""

    def __init__(self, rig: Rig, accounts: Accounts) -> None:
        self.rig = rig
        self.accounts = accounts
        self.answers = True

    async def apply(self, name: str, **spec: Any) -> None:
        await self.rig.apply(name, {"logStreamRef": {"name": "shop"}, **spec}, kind="LogStreamAPIKey")

    async def reconcile(self, name: str) -> float | None:
        async def ask(_address: str, _key: str) -> bool:
            return self.answers

        return await reconcile_key(self.rig.context, Key("LogStreamAPIKey", self.rig.namespace, name), ask=ask)

    async def get(self, name: str) -> Object:
        found = await self.rig.context.cluster.get(API_KEY, self.rig.namespace, name)
        assert found is not None
        return found

    async def secret(self, name: str) -> dict[str, str] | None:
        found = await self.rig.context.cluster.get(SECRET, self.rig.namespace, name)
        return None if found is None else {key: base64.b64decode(text).decode() for key, text in found["data"].items()}

    async def key_in(self, name: str) -> str:
        held = await self.secret(name)
        assert held is not None
        return held["LOGSTREAM_API_KEY"]

    async def living(self) -> list[ApiKey]:
        """Keys that are let in, and have no end of their own."""
        return [key for key in await self.accounts.keys.list(stream="shop") if key.expires_at is None]

    async def ever(self) -> int:
        """How many were ever registered."""
        return len(await self.accounts.keys.list(stream="shop", revoked=True))

    async def is_let_in(self, text: str) -> bool:
        gate = await Gate.open(self.accounts)
        try:
            gate.authenticate(f"Bearer {text}".encode())
        except LogStreamError:
            return False
        return True


@pytest.fixture
async def own(operator: Rig) -> Any:
    await operator.apply("shop")
    obj = await operator.settle("shop")
    place = (
        await connect(operator.context, LogStream.parse(obj), {"apiVersion": LOGSTREAM.api_version, **obj})
    ).database
    assert isinstance(place, Database)
    accounts = await open_accounts(place.url, place.password, operator.context.clock)
    try:
        yield Keys(operator, accounts)
    finally:
        await accounts.close()


async def test_a_key_is_made_and_stays(own: Keys) -> None:
    await own.apply("web", quota={"recordsPerSecond": 10})
    await own.reconcile("web")
    held = await own.secret("web")
    assert held is not None
    assert held.keys() == {"LOGSTREAM_API_KEY", "LOGSTREAM_INGEST_URL", "LOGSTREAM_API_URL"}
    assert held["LOGSTREAM_INGEST_URL"] == f"http://shop-collector.{own.rig.namespace}.svc:8080"
    obj = await own.get("web")
    assert condition(obj, "Ready")["status"] == "True"
    assert obj["status"]["keyId"] == parse_key(held["LOGSTREAM_API_KEY"]).id
    assert obj["status"]["secretName"] == "web"
    assert held["LOGSTREAM_API_KEY"] not in str(obj)
    assert await own.is_let_in(held["LOGSTREAM_API_KEY"])
    [key] = await own.living()
    assert key.quota.records_per_second == 10
    assert await own.secret("web-pending") is None
    # Again: nothing is written.
    await own.reconcile("web")
    assert (await own.get("web"))["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    assert await own.secret("web") == held
    assert await own.ever() == 1


async def test_it_waits_for_its_stream(operator: Rig) -> None:
    await operator.apply("web", {"logStreamRef": {"name": "nowhere"}}, kind="LogStreamAPIKey")
    with pytest.raises(keys.KeyUnfinished):
        await reconcile_key(operator.context, Key("LogStreamAPIKey", operator.namespace, "web"))
    obj = await operator.context.cluster.get(API_KEY, operator.namespace, "web")
    assert obj is not None
    assert condition(obj, "Ready")["reason"] == "StreamMissing"


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_between_any_two_steps_makes_no_second_key(own: Keys, step: str) -> None:
    def crash(at: str) -> None:
        if at == step:
            raise Crash

    await own.apply("web")
    own.rig.context.crash = crash
    with pytest.raises(Crash):
        await own.reconcile("web")
    own.rig.context.crash = lambda _: None
    for _ in range(2):
        await own.reconcile("web")
    assert await own.ever() == 1, "never two minted"
    assert await own.is_let_in(await own.key_in("web"))
    assert await own.secret("web-pending") is None
    # The same while one is replaced.
    before = await own.key_in("web")
    await own.apply("web", rotation={"every": "1h", "overlap": "10m"})
    await _rotate(own, "web")
    own.rig.context.crash = crash
    with pytest.raises(Crash):
        await own.reconcile("web")
    assert await own.is_let_in(await own.key_in("web")), "programs can always read one that works"
    own.rig.context.crash = lambda _: None
    for _ in range(2):
        await own.reconcile("web")
    after = await own.key_in("web")
    assert after != before
    assert await own.ever() == 2
    assert [key.id for key in await own.living()] == [parse_key(after).id]
    assert await own.is_let_in(before), "for the overlap"
    assert (await own.get("web"))["status"]["previousKeyId"] == parse_key(before).id


async def _rotate(own: Keys, name: str) -> None:
    change = {"metadata": {"annotations": {ROTATE: datetime.now(UTC).isoformat()}}}
    await own.rig.context.cluster.patch(API_KEY, own.rig.namespace, name, change)


async def test_it_is_not_swapped_before_a_collector_lets_it_in(own: Keys, cluster: Cluster) -> None:
    await own.apply("web")
    await own.reconcile("web")
    before = await own.key_in("web")
    # Collectors are there, as a kubelet would have it.
    collectors = "app.kubernetes.io/component=collector"
    await asyncio.to_thread(cluster.mark_ready, own.rig.namespace, selector=collectors)
    own.answers = False
    await _rotate(own, "web")
    assert await own.reconcile("web") == keys.CONFIRM_AGAIN_SECONDS
    assert await own.key_in("web") == before
    obj = await own.get("web")
    assert (condition(obj, "Rotating")["status"], condition(obj, "Rotating")["reason"]) == ("True", "Confirming")
    own.answers = True
    await own.reconcile("web")
    assert await own.key_in("web") != before
    assert await own.ever() == 2


async def test_a_secret_that_was_deleted_or_spoilt_is_healed_by_a_new_key(own: Keys) -> None:
    await own.apply("web")
    await own.reconcile("web")
    first = await own.key_in("web")
    await own.rig.context.cluster.delete(SECRET, own.rig.namespace, "web")
    await own.reconcile("web")
    second = await own.key_in("web")
    assert second != first
    change = {"stringData": {"LOGSTREAM_API_KEY": "ls_mine", "EXTRA": "x", "LOGSTREAM_API_URL": "http://evil"}}
    await own.rig.context.cluster.patch(SECRET, own.rig.namespace, "web", change)
    await own.reconcile("web")
    held = await own.secret("web")
    assert held is not None
    assert held.keys() == {"LOGSTREAM_API_KEY", "LOGSTREAM_INGEST_URL", "LOGSTREAM_API_URL"}
    assert "evil" not in held["LOGSTREAM_API_URL"]
    assert await own.is_let_in(held["LOGSTREAM_API_KEY"])
    assert len(await own.living()) == 1
    assert await own.ever() == 3


async def test_revoked_ends_at_once_and_for_good(own: Keys) -> None:
    await own.apply("web", rotation={"every": "1h", "overlap": "30m"})
    await own.reconcile("web")
    first = await own.key_in("web")
    await _rotate(own, "web")
    await own.reconcile("web")
    second = await own.key_in("web")
    assert await own.is_let_in(first)
    await own.apply("web", rotation={"every": "1h", "overlap": "30m"}, revoked=True)
    await own.reconcile("web")
    assert not await own.is_let_in(first)
    assert not await own.is_let_in(second)
    obj = await own.get("web")
    assert condition(obj, "Ready")["reason"] == "Revoked"
    await own.reconcile("web")
    assert await own.ever() == 2


async def test_deleted_ends_at_once(own: Keys) -> None:
    await own.apply("web")
    await own.reconcile("web")
    text = await own.key_in("web")
    await own.rig.context.cluster.delete(API_KEY, own.rig.namespace, "web")
    with pytest.raises(Forgotten):
        await own.reconcile("web")
    assert not await own.is_let_in(text)
    assert await own.rig.context.cluster.get(API_KEY, own.rig.namespace, "web") is None


async def test_an_end_of_its_own(own: Keys) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    await own.apply("web", expiresAt=later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert (await own.reconcile("web") or 0) <= 60.0
    obj = await own.get("web")
    assert obj["status"]["expiresAt"] == later.strftime("%Y-%m-%dT%H:%M:%SZ")
    [key] = await own.accounts.keys.list(stream="shop")
    assert key.expires_at == int(later.timestamp()) * 10**9
    await own.apply("web", expiresAt=(datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    await own.reconcile("web")
    assert condition(await own.get("web"), "Ready")["reason"] == "Expired"


async def test_scopes_that_were_taken_away_end_with_the_old_key(own: Keys) -> None:
    await own.apply("web", scopes=["ingest", "read"])
    await own.reconcile("web")
    before = await own.key_in("web")
    await own.apply("web", scopes=["ingest"])
    await own.reconcile("web")
    assert not await own.is_let_in(before)
    assert await own.is_let_in(await own.key_in("web"))


async def test_a_secret_of_somebody_else_is_never_touched(own: Keys) -> None:
    await own.rig.secret("web", {"theirs": "1"})
    await own.apply("web")
    await own.reconcile("web")
    obj = await own.get("web")
    assert condition(obj, "Ready")["reason"] == "SecretNotOurs"
    assert await own.secret("web") == {"theirs": "1"}
    assert await own.ever() == 0
    # Two keys that want one Secret: the first has it.
    await own.apply("one", secretName="both")
    await own.apply("two", secretName="both")
    await own.reconcile("one")
    held = await own.secret("both")
    await own.reconcile("two")
    found = condition(await own.get("two"), "Ready")
    assert found["reason"] == "SecretNotOurs"
    assert "LogStreamAPIKey one" in found["message"]
    assert await own.secret("both") == held


async def test_a_deleted_key_goes_though_accounts_are_away(own: Keys) -> None:
    from tests.support.operator import settings

    await own.apply("web")
    await own.reconcile("web")
    gone = settings(kafka="127.0.0.1:9", store="http://127.0.0.1:9", postgres="postgresql://a:b@127.0.0.1:9/x",
                    cleanup_attempts="2")  # fmt: skip
    away = own.rig.with_settings(gone)
    await own.rig.context.cluster.delete(API_KEY, own.rig.namespace, "web")
    for _ in range(3):
        with contextlib.suppress(Exception):
            await reconcile_key(away.context, Key("LogStreamAPIKey", own.rig.namespace, "web"))
    assert await own.rig.context.cluster.get(API_KEY, own.rig.namespace, "web") is None
    assert await own.rig.events("CleanupSkipped")
    await away.context.close()
