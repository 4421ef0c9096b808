"""What an event of a watcher has reconciled: whatever may differ from what is wanted, but not our own writes."""

from typing import Any, cast

from logstream.clock import ManualClock
from logstream_operator.cluster.client import Cluster
from logstream_operator.objects.meta import LOGSTREAM_LABEL
from logstream_operator.reconcile.context import Key
from logstream_operator.reconcile.known import Known
from logstream_operator.watch import Watch

SHOP, PAY = Key("LogStream", "ns", "shop"), Key("LogStream", "ns", "pay")


def make() -> tuple[Watch, Known, list[Key]]:
    known, heard = Known(), list[Key]()
    return Watch(cast(Cluster, None), known, heard.append, ManualClock(), namespaces=("ns",)), known, heard


def stream(name: str, version: str, *, plane: str = "", generation: int = 1, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": version,
            "generation": generation, **meta,
        },
        "spec": {"dataPlaneRef": {"name": plane}} if plane else {},
    }  # fmt: skip


def child(version: str) -> dict[str, Any]:
    labels = {LOGSTREAM_LABEL: "shop"}
    return {
        "metadata": {
            "name": "shop-api", "namespace": "ns", "uid": "uid-api", "resourceVersion": version, "labels": labels
        }
    }  # fmt: skip


def test_a_change_of_a_data_plane_is_one_of_those_that_share_it() -> None:
    watch, _, heard = make()
    watch.saw_stream(stream("shop", "1"), gone=False)
    watch.saw_stream(stream("pay", "2", plane="shop"), gone=False)
    assert heard == [SHOP, PAY]
    heard.clear()
    watch.saw_stream(stream("shop", "3", generation=2), gone=False)
    assert heard == [SHOP, PAY]
    heard.clear()
    watch.saw_stream(stream("shop", "4", generation=2, annotations={"a": "b"}), gone=False)
    assert heard == [SHOP]
    heard.clear()
    watch.saw_stream(stream("shop", "5", generation=2, deletionTimestamp="now"), gone=False)
    assert heard == [SHOP, PAY]


def test_our_own_writes_are_no_news() -> None:
    watch, known, heard = make()
    watch.saw_stream(stream("shop", "1"), gone=False)
    heard.clear()
    ours = stream("shop", "2", finalizers=["logstream.dev/external"])
    known.wrote(ours)
    watch.saw_stream(ours, gone=False)
    known.wrote(child("3"))
    watch.saw_child(child("3"))
    assert heard == []
    # What somebody else made of them is.
    watch.saw_child(child("4"))
    watch.saw_stream(stream("shop", "5"), gone=False)
    assert heard == [SHOP, SHOP]
    heard.clear()
    # And that one of ours is gone.
    watch.saw_child(child("3"), gone=True)
    assert heard == [SHOP]
