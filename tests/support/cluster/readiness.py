"""What a kubelet tells the API server, written for pods that no node runs.

Only the pods' status is written: ReplicaSets, Deployments, StatefulSets and budgets follow by their own controllers,
exactly as on a node.
"""

import datetime
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes import client

_WAIT = 0.1


def mark_ready(kubeconfig: str, namespace: str, *, selector: str, ready: bool, timeout: float) -> None:
    """Mark each pod, and new ones as they come, until every Deployment and StatefulSet has observed it.

    ready: False writes what a failing readiness probe causes. Raises TimeoutError after `timeout` seconds.
    """
    # Heavy, and most tests need none.
    from kubernetes import client, config

    deadline = time.monotonic() + timeout
    with config.new_client_from_config(kubeconfig) as api:
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        while True:
            for pod in core.list_namespaced_pod(namespace, label_selector=selector).items:
                if _told(pod) is not ready and pod.metadata.deletion_timestamp is None:
                    _patch(core, pod, ready)
            waiting = [
                f"{kind} {one.metadata.name}"
                for kind, found in (
                    ("Deployment", apps.list_namespaced_deployment(namespace, label_selector=selector).items),
                    ("StatefulSet", apps.list_namespaced_stateful_set(namespace, label_selector=selector).items),
                )
                for one in found
                if not _settled(one, ready)
            ]
            if not waiting:
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"not {'ready' if ready else 'unready'} after {timeout:g} s: {', '.join(waiting)}")
            time.sleep(_WAIT)


def _told(pod: Any) -> bool | None:
    """Whether the pod's status says that it is ready; None when no kubelet has spoken yet."""
    conditions: Iterable[Any] = pod.status.conditions or ()
    said = {condition.type: condition.status for condition in conditions}
    return None if "Ready" not in said else said["Ready"] == "True"


def _patch(core: "client.CoreV1Api", pod: Any, ready: bool) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    word = str(ready)
    states = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": word, "Ready": word}
    running = [
        {
            "name": container.name, "image": container.image, "imageID": "", "ready": ready, "started": True,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        }
        for container in pod.spec.containers
    ]  # fmt: skip
    finished = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    initialized = [
        {"name": one.name, "image": one.image, "imageID": "", "ready": True, "restartCount": 0, "state": finished}
        for one in pod.spec.init_containers or ()
    ]
    status = {
        "phase": "Running",
        "startTime": now,
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "conditions": [{"type": kind, "status": said, "lastTransitionTime": now} for kind, said in states.items()],
        "containerStatuses": running,
        "initContainerStatuses": initialized,
    }
    from kubernetes import client

    try:
        core.patch_namespaced_pod_status(pod.metadata.name, pod.metadata.namespace, {"status": status})
    except client.ApiException as error:
        # A rollout replaced it meanwhile.
        if error.status not in (404, 409):
            raise


def _settled(owner: Any, ready: bool) -> bool:
    status, wanted = owner.status, owner.spec.replicas
    if status.observed_generation != owner.metadata.generation or (status.replicas or 0) != wanted:
        return False
    updated = (status.updated_replicas or 0) == wanted
    # Deployments say `available`, after minReadySeconds; so do StatefulSets.
    return updated and (status.available_replicas or 0) == (wanted if ready else 0)
