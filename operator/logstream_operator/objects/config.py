"""The settings file of a component (`logstream.run.settings`), in an immutable ConfigMap named by its contents.

A change makes another ConfigMap, and so rolls the pods; an old pod never meets new settings. What may change without
a restart (retention, quota, anonymous reads, the streams themselves) is in the accounts database instead.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from logstream_operator.objects import secrets
from logstream_operator.objects.meta import (
    API,
    API_PORT,
    COLLECTOR,
    COLLECTOR_PORT,
    HEALTH_PORT,
    PROCESSOR,
    Object,
    endpoints,
    make,
)
from logstream_operator.objects.plane import DataPlane, SecretFile
from logstream_operator.spec import child_name

FOLDER = "/etc/logstream/config"
FILE = "logstream.yaml"
DRAIN_SECONDS, SHUTDOWN_SECONDS = 8, 20
"""Balancers hear within DRAIN_SECONDS that a pod ends; see docs/processes.md, Stopping."""

Section = dict[str, Any]
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_ALL = "0.0.0.0"  # noqa: S104 — the pod's own addresses; the NetworkPolicy says who reaches them.


def settings(plane: DataPlane, component: str) -> dict[str, Section]:
    """What the component is told, by section."""
    found = {"run": _run(plane), "log": {"format": "json"}, "kafka": _kafka(plane), "auth": _auth(plane)}
    if component != COLLECTOR:
        found["store"] = _store(plane)
    if component != PROCESSOR:
        found["ingest"] = plane.resource.spec.ingest.values()
        found["redaction"] = _redaction(plane)
    if component == COLLECTOR:
        found["collector"] = {"host": _ALL, "port": COLLECTOR_PORT}
    if component == API:
        ingest_url = endpoints(plane.resource.name, plane.resource.namespace)["ingest"]
        # Anybody who reaches it could sign up otherwise: only on loopback is that meant.
        found["api"] = {"host": _ALL, "port": API_PORT, "ingest_url": _public(plane) or ingest_url, "signup": False}
    return found


def config_map(plane: DataPlane, component: str) -> Object:
    text = dump(settings(plane, component))
    name = child_name(plane.resource.name, component, "config", checksum(text))
    return make(plane, "ConfigMap", name, component, {"immutable": True, "data": {FILE: text}})


def dump(sections: Mapping[str, Section]) -> str:
    """YAML with one line a setting, its value in JSON. The text is the ConfigMap's name, so no library's way of
    breaking lines may be in it."""
    lines = []
    for section in sorted(sections):
        lines.append(f"{section}:\n")
        lines += (f"  {field}: {_json(value)}\n" for field, value in sorted(sections[section].items()))
    return "".join(lines)


def _json(value: Any) -> str:
    # JSON allows characters that YAML does not.
    text = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _run(plane: DataPlane) -> Section:
    stream = plane.resource
    return {
        "bus": "kafka",
        "create_missing": False,
        # Made by the operator before any pod is; named here because an API without any would make one called default.
        "streams": [{"name": stream.name, "namespace": stream.namespace, "generation": stream.uid}],
        "health_host": _ALL,
        "health_port": HEALTH_PORT,
        "drain_seconds": DRAIN_SECONDS,
        "shutdown_seconds": SHUTDOWN_SECONDS,
    }


def _kafka(plane: DataPlane) -> Section:
    kafka = plane.backends.kafka
    # Nothing of topics: they are the operator's, and a change of theirs must not roll the pods.
    found: Section = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.startswith("SASL"):
        found |= {"sasl_mechanism": kafka.sasl_mechanism, "username": kafka.username}
    if kafka.password is not None:
        found["password_file"] = secrets.path("kafka/password")
    if kafka.ca is not None:
        found["ca_file"] = secrets.path("kafka/ca")
    if kafka.certificate is not None and kafka.key is not None:
        found |= {"cert_file": secrets.path("kafka/certificate"), "key_file": secrets.path("kafka/key")}
    return found


def _store(plane: DataPlane) -> Section:
    store = plane.backends.clickhouse
    found: Section = {"username": store.username}
    _put(found, "url", store.url, "clickhouse/url")
    if store.cluster:
        found["cluster"] = store.cluster
    if store.password is not None:
        found["password_file"] = secrets.path("clickhouse/password")
    if store.ca is not None:
        found["ca_file"] = secrets.path("clickhouse/ca")
    return found


def _auth(plane: DataPlane) -> Section:
    accounts = plane.backends.postgres
    url = accounts.url
    if accounts.ca is not None and isinstance(url, str):
        # With a file as its address, the environment has it: see `deployment`.
        url += ("&" if "?" in url else "?") + f"sslrootcert={quote(secrets.path('postgres/ca'), safe='')}"
    found: Section = {}
    _put(found, "url", url, "postgres/url")
    if accounts.password is not None:
        found["password_file"] = secrets.path("postgres/password")
    return found


def _redaction(plane: DataPlane) -> Section:
    redaction = plane.resource.spec.redaction
    found: Section = redaction.values()
    if redaction.hash_key_ref is not None:
        found["hash_key_file"] = secrets.path("redaction/hash-key")
    return found


def _public(plane: DataPlane) -> str | None:
    """Where people outside reach the collector, if anywhere."""
    spec = plane.resource.spec
    if spec.ingress is not None:
        return f"{'https' if spec.ingress.tls is not None else 'http'}://{spec.ingress.host}"
    return None


def _put(section: Section, field: str, value: str | SecretFile, name: str) -> None:
    if isinstance(value, SecretFile):
        section[f"{field}_file"] = secrets.path(name)
    else:
        section[field] = value
