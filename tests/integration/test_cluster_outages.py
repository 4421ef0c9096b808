"""A control plane that is killed, frozen and made to forget comes back with its data."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, CommandError


def _config_map(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"it": name}}


def test_a_killed_api_server_comes_back_with_its_data(own_cluster: Cluster) -> None:
    own_cluster.apply(_config_map("kept"))

    own_cluster.kill()
    with pytest.raises(CommandError, match="refused"):
        own_cluster.get("configmap", "kept")
    own_cluster.ensure_running()

    assert own_cluster.get("configmap", "kept")["data"] == {"it": "kept"}


def test_a_killed_store_comes_back_with_its_data(own_cluster: Cluster) -> None:
    own_cluster.apply(_config_map("stored"))

    own_cluster.etcd.kill()
    own_cluster.ensure_running()

    assert own_cluster.get("configmap", "stored")["data"] == {"it": "stored"}


def test_a_frozen_api_server_answers_when_it_goes_on(own_cluster: Cluster) -> None:
    own_cluster.apply(_config_map("thawed"))

    own_cluster.pause()
    with pytest.raises(CommandError, match=r"(?i)timeout"):
        own_cluster.kubectl("get", "configmap", "thawed", "--request-timeout=1s")
    own_cluster.resume()

    assert own_cluster.get("configmap", "thawed")["data"] == {"it": "thawed"}


async def test_a_watch_that_goes_on_from_an_old_version_is_told_that_it_is_gone(own_cluster: Cluster) -> None:
    from kubernetes.aio import client

    async with own_cluster.client() as api:
        core = client.CoreV1Api(api)
        seen = (await core.list_namespaced_config_map("default")).metadata.resource_version
        own_cluster.expire_watches()

        with pytest.raises(client.ApiException) as refused:
            await _watch(core, seen)
    assert refused.value.status == 410


async def _watch(core: object, version: str) -> None:
    from kubernetes.aio import watch

    async with watch.Watch() as watching:
        listed = core.list_namespaced_config_map  # type: ignore[attr-defined]
        async for _ in watching.stream(listed, "default", resource_version=version, timeout_seconds=5):
            pass


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    own = (
        "import os, signal, sys; from pathlib import Path; from tests.support.cluster import Cluster\n"
        f"cluster = Cluster(Path({str(tmp_path)!r})).start()\n"
        "print(cluster.etcd.pid, cluster.apiserver.pid, cluster.controllers.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", own], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        starter.wait(60)

    assert len(pids) == 3
    _wait_until_ended(pids)


def _wait_until_ended(pids: list[int]) -> None:
    import time

    deadline = time.monotonic() + 60
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)
