"""Secrets as files of pods: one folder, made from the values that are needed and no others."""

from collections.abc import Iterator
from typing import Any

from logstream_operator.objects.meta import COLLECTOR, PROCESSOR
from logstream_operator.objects.plane import DataPlane, SecretFile

FOLDER = "/etc/logstream/secrets"

Named = tuple[str, SecretFile]
"""Path below FOLDER, and where its value is."""


def path(name: str) -> str:
    return f"{FOLDER}/{name}"


def kafka_files(plane: DataPlane) -> Iterator[Named]:
    kafka = plane.backends.kafka
    yield from _given("kafka", password=kafka.password, ca=kafka.ca, certificate=kafka.certificate, key=kafka.key)


def store_files(plane: DataPlane) -> Iterator[Named]:
    store = plane.backends.clickhouse
    if isinstance(store.url, SecretFile):
        yield "clickhouse/url", store.url
    yield from _given("clickhouse", password=store.password, ca=store.ca)


def accounts_files(plane: DataPlane) -> Iterator[Named]:
    accounts = plane.backends.postgres
    if isinstance(accounts.url, SecretFile):
        yield "postgres/url", accounts.url
    yield from _given("postgres", password=accounts.password, ca=accounts.ca)


def redaction_files(plane: DataPlane) -> Iterator[Named]:
    if (ref := plane.resource.spec.redaction.hash_key_ref) is not None:
        yield "redaction/hash-key", SecretFile(ref.name, ref.key)


def _given(folder: str, **files: SecretFile | None) -> Iterator[Named]:
    for name, file in files.items():
        if file is not None:
            yield f"{folder}/{name}", file


def files(plane: DataPlane, component: str) -> list[Named]:
    """What the component needs, and no more: a collector has no way into ClickHouse."""
    found = [*kafka_files(plane), *accounts_files(plane)]
    if component != COLLECTOR:
        found += store_files(plane)
    if component != PROCESSOR:
        found += redaction_files(plane)
    return found


def volume(plane: DataPlane, component: str) -> dict[str, Any] | None:
    """None where there is no secret at all."""
    by_secret: dict[str, list[dict[str, str]]] = {}
    for name, file in files(plane, component):
        by_secret.setdefault(file.secret, []).append({"key": file.key, "path": name})
    if not by_secret:
        return None
    sources = [{"secret": {"name": secret, "items": items}} for secret, items in by_secret.items()]
    return {"name": "secrets", "projected": {"defaultMode": 0o444, "sources": sources}}
