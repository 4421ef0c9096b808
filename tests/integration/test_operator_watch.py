"""Watching: every change asks for its resource, and a watcher that died is noticed."""

import asyncio

from tests.support.operator import Rig, until

from logstream.clock import SystemClock
from logstream_operator.cluster.kinds import API_KEY, LOGSTREAM
from logstream_operator.reconcile.context import Key
from logstream_operator.reconcile.known import Known
from logstream_operator.watch import Watch


async def test_changes_are_heard_and_a_dead_watcher_is_noticed(operator: Rig) -> None:
    heard: list[Key] = []
    known = Known()
    watch = Watch(operator.context.cluster, known, heard.append, SystemClock(), namespaces=(operator.namespace,))
    running = asyncio.create_task(watch.run())
    try:
        await until(lambda: watch.begun)
        await operator.apply("shop")
        await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}})
        await operator.apply("web", {"logStreamRef": {"name": "pay"}}, kind="LogStreamAPIKey")
        space = operator.namespace
        wanted = {Key("LogStream", space, "shop"), Key("LogStream", space, "pay"), Key("LogStreamAPIKey", space, "web")}
        await until(lambda: wanted <= set(heard))
        await until(lambda: list(known.sharers((space, "shop"))) == [(space, "pay")])
        # Our own status is no news; a child of ours is, and nobody else's.
        heard.clear()
        await operator.context.cluster.patch(
            LOGSTREAM, space, "shop", {"status": {"observedGeneration": 1}}, subresource="status"
        )
        for name, labels in (
            ("theirs", {}),
            ("ours", {"app.kubernetes.io/managed-by": "logstream-operator", "logstream.dev/logstream": "shop"}),
        ):
            metadata = {"name": name, "namespace": space, "labels": labels}
            await operator.context.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        await until(lambda: heard)
        await asyncio.sleep(0.5)
        assert set(heard) == {Key("LogStream", space, "shop")}
        heard.clear()
        # What shares a data plane, and its keys, hear of a change there.
        await operator.apply("pay", {"dataPlaneRef": {"name": "shop"}, "retention": {"days": 2}})
        await until(lambda: {Key("LogStream", space, "pay"), Key("LogStreamAPIKey", space, "web")} <= set(heard))
        heard.clear()
        await operator.context.cluster.delete(API_KEY, space, "web")
        await until(lambda: Key("LogStreamAPIKey", space, "web") in heard)
        assert watch.age() < 30
        # One dies, as kopf's do at an error they do not know; nothing else does.
        for task in asyncio.all_tasks():
            if task.get_name().startswith("watcher for services."):
                task.cancel()
        await until(lambda: watch.age() > 5)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_that_never_began_is_as_old_as_the_process(operator: Rig) -> None:
    watch = Watch(operator.context.cluster, Known(), lambda _: None, SystemClock(), namespaces=(operator.namespace,))
    assert not watch.begun
    await asyncio.sleep(0.05)
    assert watch.age() >= 0.05
