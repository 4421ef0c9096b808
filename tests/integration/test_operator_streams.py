"""A LogStream on a real API server: everything that it asks for is made, and stays as it asks for."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from tests.support.operator import Rig, condition, settings, until

from logstream.errors import NotFound
from logstream.stream import Stream, make_stream
from logstream_operator.cluster.kinds import CHILDREN, DEPLOYMENT, LOGSTREAM, SECRET, SERVICE, Object
from logstream_operator.external.accounts import database_name, open_accounts
from logstream_operator.external.topics import Topics
from logstream_operator.reconcile.connect import POSTGRES_PASSWORD, Database, connect
from logstream_operator.reconcile.context import make_store
from logstream_operator.reconcile.stream import Unfinished
from logstream_operator.spec import LogStream

STEPS = ("ConnectionsReady", "AccountsReady", "TopicReady", "SchemaReady", "StreamReady")


def stream_of(obj: Object) -> Stream:
    meta = obj["metadata"]
    return make_stream(meta["name"], namespace=meta["namespace"], generation=meta["uid"])


async def topics(rig: Rig) -> Topics:
    kafka = rig.context.settings.kafka
    assert kafka is not None
    async with rig.context.kafka.use(kafka, lambda: _topics(kafka)) as found:
        return found


async def _topics(kafka: Any) -> Topics:
    return Topics(kafka)


async def retention(rig: Rig, stream: Stream) -> int | None:
    store = rig.context.settings.store
    assert store is not None
    async with rig.context.stores.use(store, lambda: make_store(store)) as found:
        return await found.retention(stream)


async def database(rig: Rig, obj: Object) -> Database:
    found = (await connect(rig.context, LogStream.parse(obj), {"apiVersion": LOGSTREAM.api_version, **obj})).database
    assert isinstance(found, Database)
    return found


async def names(rig: Rig, plane: Object) -> dict[str, Any]:
    """The streams in the data plane's accounts."""
    place = await database(rig, plane)
    accounts = await open_accounts(place.url, place.password, rig.context.clock)
    try:
        return {info.stream.name: info for info in await accounts.streams.list()}
    finally:
        await accounts.close()


async def test_everything_is_made_once(operator: Rig) -> None:
    obj = await operator.apply("shop", {"topic": {"partitions": 3, "retentionHours": 5}, "retention": {"days": 7}})
    obj = await operator.settle("shop")
    stream, status = stream_of(obj), obj["status"]
    assert (status["streamId"], status["topic"], status["database"]) == (
        stream.stream_id,
        stream.topic,
        stream.database,
    )
    for name in STEPS:
        assert condition(obj, name)["status"] == "True", condition(obj, name)
    # No kubelet is there: no pod is ready, and that is said.
    assert (condition(obj, "Ready")["status"], condition(obj, "Ready")["reason"]) == ("False", "PodsNotReady")
    kafka = await topics(operator)
    assert (await kafka.admin.describe(stream.topic)).topic.partitions == 3
    assert (await kafka.admin.describe(stream.dead_letter_topic)).topic.partitions == 3
    assert (await kafka.admin.properties(stream.topic))["retention.ms"] == str(5 * 3_600_000)
    assert await retention(operator, stream) == 7
    info = (await names(operator, obj))["shop"]
    assert (info.stream, info.retention_days, info.ready) == (stream, 7, True)
    children = await operator.children("shop")
    assert {("Deployment", f"shop-{part}") for part in ("collector", "processor", "api")} <= children.keys()
    assert all(child["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"] for child in children.values())

    # Somebody else takes over, who knows nothing: not one write, to children or resource. Times are whole seconds.
    await until(lambda: _replicas_are_told(operator, "shop"))
    await asyncio.sleep(1.1)
    obj = await operator.settle("shop")
    again = operator.with_settings(operator.context.settings)
    again.context.known = type(again.context.known)()
    before = await operator.versions("shop")
    await again.settle("shop")
    await again.context.close()
    assert await operator.versions("shop") == before
    assert (await operator.get("shop"))["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]


async def _replicas_are_told(rig: Rig, name: str) -> bool:
    """The controllers have made all pods, so that Deployments stay as they are."""
    children = await rig.children(name)
    deployments = [child for (kind, _), child in children.items() if kind == "Deployment"]
    return all((child.get("status") or {}).get("replicas") == child["spec"]["replicas"] for child in deployments)


async def test_drift_on_every_child_is_reverted(operator: Rig) -> None:
    await operator.apply("shop")
    obj = await operator.settle("shop")
    cluster = operator.context.cluster
    before = await operator.children("shop")
    # Gone
    for kind in CHILDREN:
        for name in [name for of, name in before if of == kind.name]:
            await cluster.delete(kind, operator.namespace, name)
    await operator.settle("shop")
    after = await operator.children("shop")
    assert after.keys() == before.keys()
    assert all(after[key]["metadata"]["uid"] != before[key]["metadata"]["uid"] for key in before if key[0] != "Secret")
    # Changed
    name = "shop-collector"
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "collector", "image": "evil:1"}]}}}}
    await cluster.patch(DEPLOYMENT, operator.namespace, name, changed)
    await cluster.patch(SERVICE, operator.namespace, name, {"metadata": {"labels": {"logstream.dev/logstream": None}}})
    await operator.settle("shop")
    deployment = await cluster.get(DEPLOYMENT, operator.namespace, name)
    assert deployment is not None
    assert [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]] == [
        operator.context.settings.operator.image
    ]
    assert (await operator.children("shop")).keys() == before.keys()
    # Orphans of ours go, and nobody else's.
    for name, owner in (("ours", obj["metadata"]["uid"]), ("theirs", None)):
        reference = {"apiVersion": "logstream.dev/v1alpha1", "kind": "LogStream", "name": "shop", "controller": True}
        labels = {"logstream.dev/logstream": "shop", "app.kubernetes.io/managed-by": "logstream-operator"}
        await cluster.create(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {
                    "name": name,
                    "namespace": operator.namespace,
                    "labels": labels,
                    "ownerReferences": [{**reference, "uid": owner}] if owner else [],
                },
            }
        )
    await operator.settle("shop")
    left = {name for kind, name in await operator.children("shop") if kind == "ServiceAccount"}
    assert "theirs" in left
    assert "ours" not in left


async def test_a_field_that_somebody_else_set_is_taken_back_and_told(operator: Rig) -> None:
    await operator.apply("shop", {"collector": {"replicas": 3}})
    await operator.settle("shop")
    cluster = operator.context.cluster
    await cluster._ask(
        "PATCH",
        DEPLOYMENT.path(operator.namespace, "shop-collector"),
        "patch",
        DEPLOYMENT,
        query={"fieldManager": "kubectl-edit"},
        body={"spec": {"replicas": 1}},
        content="application/merge-patch+json",
    )
    await operator.settle("shop")
    found = await cluster.get(DEPLOYMENT, operator.namespace, "shop-collector")
    assert found is not None
    assert found["spec"]["replicas"] == 3
    assert any("kubectl-edit" in note for note in await operator.events("FieldConflict"))


async def test_changes_reach_topic_tables_and_accounts_and_restart_nothing(operator: Rig) -> None:
    await operator.apply("shop", {"topic": {"partitions": 2}})
    obj = await operator.settle("shop")
    stream = stream_of(obj)
    pods = {
        key: child["spec"]["template"]
        for key, child in (await operator.children("shop")).items()
        if key[0] == "Deployment"
    }
    await operator.apply(
        "shop",
        {
            "topic": {"partitions": 4, "retentionHours": 9},
            "retention": {"days": 11, "deadLetterDays": 12},
            "quota": {"recordsPerSecond": 5},
            "anonymousReads": True,
        },
    )
    obj = await operator.settle("shop")
    assert condition(obj, "TopicReady")["status"] == "True"
    kafka = await topics(operator)
    assert (await kafka.admin.describe(stream.topic)).topic.partitions == 4
    assert (await kafka.admin.describe(stream.dead_letter_topic)).topic.partitions == 4
    assert (await kafka.admin.properties(stream.dead_letter_topic))["retention.ms"] == str(12 * 86_400_000)
    assert await retention(operator, stream) == 11
    info = (await names(operator, obj))["shop"]
    assert (info.retention_days, info.dead_letter_days, info.anonymous_reads) == (11, 12, True)
    assert info.quota.records_per_second == 5
    now = {
        key: child["spec"]["template"]
        for key, child in (await operator.children("shop")).items()
        if key[0] == "Deployment"
    }
    assert now == pods
    assert any("Idempotency-Key" in note for note in await operator.events("TopicChanged"))


async def test_drift_outside_is_reverted(operator: Rig) -> None:
    await operator.apply("shop")
    obj = await operator.settle("shop")
    stream, kafka = stream_of(obj), await topics(operator)
    await kafka.admin.change(stream.topic, "retention.ms", "1000")
    store = operator.context.settings.store
    assert store is not None
    async with operator.context.stores.use(store, lambda: make_store(store)) as found:
        await found.set_retention(stream, 1)
    await operator.settle("shop")
    assert (await kafka.admin.properties(stream.topic))["retention.ms"] == str(72 * 3_600_000)
    assert await retention(operator, stream) == 30
    # A topic that somebody deleted is made again.
    await kafka.delete(stream)
    obj = await operator.settle("shop")
    assert condition(obj, "TopicReady")["status"] == "True"
    assert (await kafka.admin.describe(stream.topic)).topic.partitions == 2


async def test_fewer_partitions_are_refused_and_the_rest_goes_on(operator: Rig) -> None:
    obj = await operator.apply("shop", {"topic": {"partitions": 2}})
    stream, kafka = stream_of(obj), await topics(operator)
    # There is one already, with more: CEL cannot know.
    await kafka.admin.create(stream.topic, 5, {}, replication_factor=1)
    obj = await operator.settle("shop")
    found = condition(obj, "TopicReady")
    assert (found["status"], found["reason"]) == ("False", "PartitionDecrease")
    assert "spec.topic.partitions" in found["message"]
    assert (await kafka.admin.describe(stream.topic)).topic.partitions == 5
    assert condition(obj, "SchemaReady")["status"] == "True"
    await operator.apply("shop", {"topic": {"partitions": 5}})
    obj = await operator.settle("shop")
    assert condition(obj, "TopicReady")["status"] == "True", "adopted"


async def test_another_number_of_replicas_is_told_and_not_faked(operator: Rig) -> None:
    obj = await operator.apply("shop", {"topic": {"partitions": 1}})
    await operator.settle("shop")
    await operator.apply("shop", {"topic": {"partitions": 1, "replicationFactor": 2}})
    obj = await operator.settle("shop")
    found = condition(obj, "TopicReady")
    assert found["reason"] == "ReplicationDiffers"
    assert "replicationFactor" in found["message"]


async def test_pause_and_resume(operator: Rig) -> None:
    await operator.apply("shop")
    await operator.settle("shop")
    await operator.apply("shop", {"paused": True, "collector": {"replicas": 5}})
    before = await operator.versions("shop")
    await operator.context.cluster.delete(SERVICE, operator.namespace, "shop-api")
    obj = await operator.settle("shop")
    assert condition(obj, "Paused")["status"] == "True"
    assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    after = await operator.versions("shop")
    assert {key: value for key, value in before.items() if key != ("Service", "shop-api")} == after
    await operator.apply("shop", {"paused": False, "collector": {"replicas": 5}})
    obj = await operator.settle("shop")
    assert condition(obj, "Paused")["status"] == "False"
    children = await operator.children("shop")
    assert children["Deployment", "shop-collector"]["spec"]["replicas"] == 5
    assert ("Service", "shop-api") in children


async def test_streams_that_share_a_data_plane(operator: Rig) -> None:
    await operator.apply("shop")
    await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}, "retention": {"days": 3}})
    await operator.reconcile("pay")
    # The data plane's own reconcile makes them.
    assert condition(await operator.get("pay"), "AccountsReady")["reason"] == "DataPlaneNotReady"
    plane = await operator.settle("shop")
    obj = await operator.settle("pay")
    assert condition(obj, "StreamReady")["status"] == "True"
    assert await operator.children("pay") == {}
    assert (await names(operator, plane)).keys() == {"shop", "pay"}
    assert await retention(operator, stream_of(obj)) == 3
    assert condition(obj, "Ready")["reason"] == "PodsNotReady"
    # Retain: the entry goes, so that the name is free; topic and tables stay.
    await operator.gone("pay")
    assert (await names(operator, plane)).keys() == {"shop"}
    assert (await (await topics(operator)).admin.describe(stream_of(obj).topic)).topic.partitions == 2
    assert await retention(operator, stream_of(obj)) == 3
    again = await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}, "deletionPolicy": "Delete"})
    again = await operator.settle("pay")
    assert condition(again, "StreamReady")["status"] == "True"
    await operator.gone("pay")
    with pytest.raises(NotFound):
        await (await topics(operator)).admin.describe(stream_of(again).topic)
    assert await retention(operator, stream_of(again)) is None
    # Another one's is as it was.
    assert await retention(operator, stream_of(obj)) == 3


@pytest.mark.parametrize(
    ("other", "reason"), [(None, "DataPlaneMissing"), ({"dataPlaneRef": {"name": "first"}}, "DataPlaneInvalid")]
)
async def test_a_data_plane_that_cannot_be_one(operator: Rig, other: dict[str, Any] | None, reason: str) -> None:
    if other is not None:
        await operator.apply("shop", other)
    await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}})
    obj = await operator.settle("pay")
    assert condition(obj, "Ready")["reason"] == reason
    assert "spec.dataPlaneRef.name" in condition(obj, "Ready")["message"]


async def test_deletion_takes_all_of_its_own_where_it_is_asked_for(operator: Rig, postgres: Any) -> None:
    await operator.apply("other")
    other = await operator.settle("other")
    await operator.apply("shop", {"deletionPolicy": "Delete"})
    obj = await operator.settle("shop")
    assert obj["metadata"]["finalizers"] == ["logstream.dev/cleanup"]
    await operator.gone("shop")
    with pytest.raises(NotFound):
        await (await topics(operator)).admin.describe(stream_of(obj).topic)
    assert await retention(operator, stream_of(obj)) is None
    name = database_name(operator.namespace, "shop", obj["metadata"]["uid"])
    administrator = operator.context.administrator
    assert administrator is not None
    connection = await administrator.address().connect()
    try:
        assert not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name)
        assert not await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name)
    finally:
        await connection.close()
    assert await retention(operator, stream_of(other)) == 30
    assert (await names(operator, other)).keys() == {"other"}


async def test_retained_data_outlive_the_resource(operator: Rig) -> None:
    await operator.apply("shop")
    obj = await operator.settle("shop")
    assert not obj["metadata"].get("finalizers"), "nothing to do outside: nothing can hang"
    place = await database(operator, obj)
    await operator.gone("shop")
    assert (await (await topics(operator)).admin.describe(stream_of(obj).topic)).topic.partitions == 2
    assert await retention(operator, stream_of(obj)) == 30
    connection = await asyncpg.connect(place.url, password=place.password)
    await connection.close()


async def test_backends_that_are_away_stop_what_needs_them_and_nothing_else(operator: Rig) -> None:
    await operator.apply("shop")
    await operator.settle("shop")
    given = operator.context.settings
    assert given.store is not None
    assert given.kafka is not None
    away = operator.with_settings(
        given.model_copy(update={"store": given.store.model_copy(update={"url": "http://127.0.0.1:9"})})
    )
    with pytest.raises(Unfinished):
        await away.reconcile("shop")
    obj = await operator.get("shop")
    found = condition(obj, "SchemaReady")
    assert (found["status"], found["reason"]) == ("False", "ClickHouseUnavailable"), found
    assert condition(obj, "TopicReady")["status"] == "True"
    assert condition(obj, "StreamReady")["reason"] == "Waiting"
    assert condition(obj, "Degraded")["reason"] == "ClickHouseUnavailable"
    await away.context.close()
    obj = await operator.settle("shop")
    assert condition(obj, "Degraded")["status"] == "False"


async def test_a_deletion_ends_though_the_backends_are_gone(operator: Rig) -> None:
    await operator.apply("shop", {"deletionPolicy": "Delete"})
    await operator.settle("shop")
    gone = settings(kafka="127.0.0.1:9", store="http://127.0.0.1:9", postgres="postgresql://a:b@127.0.0.1:9/x",
                    cleanup_attempts="2", kafka_request_timeout_seconds="1")  # fmt: skip
    away = operator.with_settings(gone)
    await away.gone("shop", attempts=6)
    await away.context.close()
    notes = await operator.events("CleanupSkipped")
    assert notes
    assert "topic logstream." in notes[0]


async def test_a_connection_of_its_own_and_what_can_be_wrong_with_it(operator: Rig, postgres: Any) -> None:
    await operator.apply("shop", {"connections": {"postgres": {"secretRef": {"name": "pg"}}}})
    obj = await operator.settle("shop")
    found = condition(obj, "AccountsReady")
    assert (found["reason"], found["status"]) == ("SecretMissing", "False")
    assert "spec.connections.postgres.secretRef" in found["message"]
    for values, told in (
        ({"password": "x"}, "lacks url"),
        ({"url": "postgresql://h/d?passfile=/etc/passwd"}, "postgresql://user@host/database"),
        ({"url": "postgresql://u@h/d?passfile=/etc/passwd"}, "passfile"),
        ({"url": "mysql://u@h/d"}, "postgresql://"),
    ):
        await operator.secret("pg", values)
        found = condition(await operator.settle("shop"), "AccountsReady")
        assert found["reason"] == "SecretInvalid"
        assert told in found["message"]
    url = postgres.url()
    await operator.secret("pg", {"url": url.replace("+asyncpg", "").replace("//logstream:", "//logstream:wrong")})
    found = condition(await operator.settle("shop"), "AccountsReady")
    assert found["reason"] == "PostgresCredentialsRefused", found
    assert "wrong" not in found["message"].replace("wrong password", "")
    await operator.secret("pg", {"url": url.replace("+asyncpg", "")})
    obj = await operator.settle("shop")
    assert condition(obj, "AccountsReady")["status"] == "True"
    # Nothing of the operator's own is in the namespace.
    mine = await operator.context.cluster.get(SECRET, operator.namespace, "shop-backends")
    assert mine is None or POSTGRES_PASSWORD not in (mine.get("data") or {})
    # The same database for another stream of that name.
    await operator.gone("shop")
    obj = await operator.apply("shop", {"connections": {"postgres": {"secretRef": {"name": "pg"}}}})
    obj = await operator.settle("shop")
    assert condition(obj, "StreamReady")["status"] == "True", "its entry went with it"


async def test_a_secret_of_somebody_else_is_not_taken(operator: Rig) -> None:
    await operator.secret("shop-backends", {"postgres-password": "theirs"})
    await operator.apply("shop")
    obj = await operator.settle("shop")
    found = condition(obj, "AccountsReady")
    assert found["reason"] == "SecretNotOurs"
    await operator.context.cluster.delete(SECRET, operator.namespace, "shop-backends")
    assert condition(await operator.settle("shop"), "AccountsReady")["status"] == "True"


async def test_a_lost_password_is_replaced(operator: Rig) -> None:
    await operator.apply("shop")
    obj = await operator.settle("shop")
    before = await database(operator, obj)
    await operator.context.cluster.delete(SECRET, operator.namespace, "shop-backends")
    obj = await operator.settle("shop")
    after = await database(operator, obj)
    assert before.password != after.password
    assert condition(obj, "AccountsReady")["status"] == "True"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(before.url, password=before.password)


async def test_a_password_of_a_tenant_is_in_no_settings(operator: Rig, postgres: Any) -> None:
    url = postgres.url().replace("+asyncpg", "")
    await operator.secret("pg", {"url": url})
    await operator.apply("shop", {"connections": {"postgres": {"secretRef": {"name": "pg"}}}})
    obj = await operator.settle("shop")
    assert condition(obj, "AccountsReady")["status"] == "True"
    password = str(make_url(url).password)
    children = await operator.children("shop")
    assert ("Deployment", "shop-collector") in children
    assert not any(password in json.dumps(child) for child in (*children.values(), obj))


async def test_no_connection_to_kafka_is_told_and_pods_wait(operator: Rig) -> None:
    given = operator.context.settings
    without = operator.with_settings(given.model_copy(update={"kafka": None}))
    await operator.apply("shop")
    obj = await without.settle("shop")
    await without.context.close()
    for name in ("ConnectionsReady", "TopicReady"):
        assert condition(obj, name)["reason"] == "NoConnection"
    assert "spec.connections.kafka" in condition(obj, "Ready")["message"]
    assert condition(obj, "SchemaReady")["status"] == "True"
    assert condition(obj, "ObjectsReady")["reason"] == "Waiting"
    assert not [key for key in await operator.children("shop") if key[0] == "Deployment"]
