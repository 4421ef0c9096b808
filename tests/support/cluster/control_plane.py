"""How etcd, kube-apiserver and kube-controller-manager are called; no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Pair

HOST = "127.0.0.1"

CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
)
"""Those that act on objects alone. The pod garbage collector is left out: no node is there, so every pod would go."""


# What ServiceAccounts outside kube-system ask for, without bodies: Secrets never get into it.
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    userGroups: ["system:serviceaccounts:kube-system"]
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
  - level: None
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """All on loopback."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controllers: int


@dataclass(frozen=True, slots=True)
class Files:
    """server: the API server's certificate; signing: of ServiceAccounts' tokens; admin: a kubeconfig."""

    etcd_data: Path
    ca: Path
    server: Pair
    signing: Pair
    admin: Path
    audit_policy: Path
    audit_log: Path


def etcd(ports: Ports, files: Files) -> Sequence[str]:
    client, peer = f"http://{HOST}:{ports.etcd}", f"http://{HOST}:{ports.etcd_peer}"
    return (
        f"--data-dir={files.etcd_data}",
        # What the system has is enough: tests kill processes, not the machine.
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    )


def apiserver(ports: Ports, files: Files, *, audit: bool, extra: Sequence[str] = ()) -> Sequence[str]:
    logged = (f"--audit-policy-file={files.audit_policy}", f"--audit-log-path={files.audit_log}") if audit else ()
    return (
        f"--etcd-servers=http://{HOST}:{ports.etcd}",
        # A loopback address cannot be an endpoint of the Service `kubernetes`.
        "--endpoint-reconciler-type=none",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={ports.apiserver}",
        f"--tls-cert-file={files.server.cert_file}",
        f"--tls-private-key-file={files.server.key_file}",
        f"--client-ca-file={files.ca}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={files.signing.cert_file}",
        f"--service-account-signing-key-file={files.signing.key_file}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        # Ends watches when told to stop: without it, it waits a minute for them.
        "--shutdown-watch-termination-grace-period=2s",
        "--profiling=false",
        *logged,
        *extra,
    )


def controllers(ports: Ports, files: Files) -> Sequence[str]:
    return (
        f"--kubeconfig={files.admin}",
        f"--bind-address={HOST}",
        f"--secure-port={ports.controllers}",
        f"--tls-cert-file={files.server.cert_file}",
        f"--tls-private-key-file={files.server.key_file}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={files.signing.key_file}",
        f"--root-ca-file={files.ca}",
        "--leader-elect=false",
        # The default of 20 a second makes hundreds of Deployments wait for minutes.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    )
