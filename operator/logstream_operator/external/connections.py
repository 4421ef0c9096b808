"""A tenant's Secret as settings of a connection. Nothing that the Secret does not say comes from the operator's own
connection: neither a user nor a password nor a certificate of its own goes to an address that a tenant wrote.

Keys of the Secrets:
    kafka       bootstrap_servers, security_protocol, sasl_mechanism, username, password, ca.crt, tls.crt, tls.key
    clickhouse  url, username, password, ca.crt, cluster
    postgres    url, password, ca.crt
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from logstream.errors import InvalidValue
from logstream.settings import KafkaSettings, StoreSettings
from logstream.storage.connection import check_files
from logstream.storage.endpoints import addresses
from logstream_operator.external.problem import Refused

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "kafka": ("bootstrap_servers",),
    "clickhouse": ("url",),
    "postgres": ("url",),
}
MAX_VALUE_BYTES = 64 * 1024
_POSTGRES_OPTIONS = frozenset({"sslmode", "target_session_attrs"})
"""Others name files and services, which would be the operator's own."""

Values = Mapping[str, str]


def read_secret(backend: str, secret: Mapping[str, Any] | None, name: str) -> Values:
    """What a Secret holds. Raises Refused when it is not there, or a key is missing, empty or no text."""
    field = f"spec.connections.{backend}.secretRef"
    if secret is None:
        raise Refused(
            "SecretMissing", f"{field}: there is no Secret {name}: make it, with {_keys(backend)}", field=field
        )
    values: dict[str, str] = {}
    for key, text in (secret.get("data") or {}).items():
        try:
            value = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Refused("SecretInvalid", f"{field}: {key} of Secret {name} is no text", field=field) from None
        if len(value) > MAX_VALUE_BYTES:
            raise Refused(
                "SecretInvalid", f"{field}: {key} of Secret {name} is longer than {MAX_VALUE_BYTES} bytes", field=field
            )
        values[key] = value if key.endswith((".crt", ".key")) else value.strip()
    missing = [key for key in REQUIRED.get(backend, ()) if not values.get(key)]
    if missing:
        raise Refused(
            "SecretInvalid",
            f"{field}: Secret {name} lacks {', '.join(missing)}: give it {_keys(backend)}",
            field=field,
        )
    return values


def _keys(backend: str) -> str:
    return {
        "kafka": "bootstrap_servers (and security_protocol, username, password, ca.crt)",
        "clickhouse": "url (and username, password, ca.crt, cluster)",
        "postgres": "url (and password, ca.crt)",
    }[backend]


def checksum(values: Values) -> str:
    """Of a Secret's contents: pods roll when it changes."""
    lines = "".join(f"{key}\0{values[key]}\0" for key in sorted(values))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


class Files:
    """Certificates of tenants as files, which the clients' libraries ask for; named by their contents."""

    def __init__(self, folder: Path) -> None:
        """folder: the operator's alone."""
        self._folder = folder

    def put(self, text: str) -> Path:
        path = self._folder / (hashlib.sha256(text.encode()).hexdigest()[:32] + ".pem")
        if not path.exists():
            # Whole or not at all; it may be a private key.
            part = path.with_suffix(f".{os.getpid()}.part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            part.replace(path)
        return path


def kafka_settings(values: Values, files: Files, base: KafkaSettings | None) -> KafkaSettings:
    """base: what topics are made with (partitions, replicas); nothing else is taken from it. Raises Refused."""
    given: dict[str, Any] = {
        key: values[key]
        for key in ("bootstrap_servers", "security_protocol", "sasl_mechanism", "username", "password")
        if values.get(key)
    }
    given |= {
        field: files.put(values[key])
        for key, field in (("ca.crt", "ca_file"), ("tls.crt", "cert_file"), ("tls.key", "key_file"))
        if values.get(key)
    }
    if base is not None:
        given |= {
            name: getattr(base, name)
            for name in ("partitions", "replication_factor", "min_insync_replicas", "max_record_bytes")
        }
    # Every field is given, so that none comes from the operator's environment.
    defaults = {name: info.default for name, info in KafkaSettings.model_fields.items()}
    try:
        return KafkaSettings(**{**defaults, "request_timeout_seconds": 5.0, **given})
    except ValidationError as error:
        raise _wrong("kafka", error) from None


def store_settings(values: Values, files: Files) -> StoreSettings:
    """Raises Refused."""
    given: dict[str, Any] = {key: values[key] for key in ("url", "username", "password", "cluster") if values.get(key)}
    if values.get("ca.crt"):
        given["ca_file"] = files.put(values["ca.crt"])
    defaults = {name: info.default for name, info in StoreSettings.model_fields.items()}
    try:
        settings = StoreSettings(**{**defaults, **given})
        addresses(settings.url)
        check_files(settings)
    except ValidationError as error:
        raise _wrong("clickhouse", error) from None
    except InvalidValue as error:
        field = "spec.connections.clickhouse.secretRef"
        raise Refused("SecretInvalid", f"{field}: {error.message}", field=field) from None
    return settings


def postgres_url(values: Values, files: Files) -> tuple[str, str]:
    """URL without a password, and the password. Raises Refused."""
    field = "spec.connections.postgres.secretRef"
    try:
        url = make_url(values["url"])
    except (ArgumentError, ValueError):
        # The message would repeat the address, password included.
        raise Refused(
            "SecretInvalid", f"{field}: url is no address like postgresql://user@host/database", field=field
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres") or not (url.host and url.database and url.username):
        raise Refused("SecretInvalid", f"{field}: url must be like postgresql://user@host/database", field=field)
    if unknown := sorted(set(url.query) - _POSTGRES_OPTIONS):
        raise Refused(
            "SecretInvalid",
            f"{field}: url has the option {unknown[0]}; only {', '.join(sorted(_POSTGRES_OPTIONS))} can be used, "
            "and ca.crt in the Secret for the certificates of the server",
            field=field,
        )
    password = values.get("password") or (str(url.password) if url.password is not None else "")
    query = {**url.query, **({"sslrootcert": str(files.put(values["ca.crt"]))} if values.get("ca.crt") else {})}
    # Not `set`, which takes None for "as it is": the password would stay in it.
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return bare.render_as_string(hide_password=False), password


def _wrong(backend: str, error: ValidationError) -> Refused:
    first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(step) for step in first["loc"])
    field = f"spec.connections.{backend}.secretRef"
    said = f"{key}: {first['msg']}" if key else str(first["msg"]).removeprefix("Value error, ")
    return Refused("SecretInvalid", f"{field}: {said}", field=field)
