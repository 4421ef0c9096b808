"""`python -m logstream_operator.spec.crd [--check] FOLDER…`: the CustomResourceDefinitions, made from the models.

One version is served now. The next one gets models of its own and is added to `versions`, with `storage: false` until
what is stored was converted; both are then served beside each other.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from logstream_operator.spec.apikey import LogStreamAPIKey, LogStreamAPIKeySpec
from logstream_operator.spec.logstream import LogStream, LogStreamSpec
from logstream_operator.spec.metadata import GROUP, VERSION
from logstream_operator.spec.part import Rules
from logstream_operator.spec.schema import Schema, structural, without_defaults
from logstream_operator.spec.status import LogStreamAPIKeyStatus, LogStreamStatus

_HEADER = "# Made from the models in logstream_operator/spec: python -m logstream_operator.spec.crd FOLDER\n"


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, description: str) -> dict[str, Any]:
    found = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**found, "priority": 1} if wide else found


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


_READY = [
    _column("Ready", _condition("Ready", "status"), description="Whether all of it is well."),
    _column("Reason", _condition("Ready", "reason"), description="Why it is not; its message is in the status."),
]
_AGE = _column("Age", ".metadata.creationTimestamp", "date", description="Since it was made.")


def log_streams() -> dict[str, Any]:
    return _definition(
        "LogStream",
        "logstreams",
        ["lgs"],
        _root(
            "LogStream is a log platform in one resource: collectors that take logs over HTTP, a topic in Kafka, "
            "processors that store them in ClickHouse, and an API that searches and tails them.",
            LogStreamSpec, LogStreamStatus, LogStream.rules, spec_default=True,
        ),
        columns=[
            *_READY,
            _column("Lag", ".status.lag", "integer", description="Records accepted and not yet stored."),
            _column("Accepted", ".status.accepted", "integer", description="Records ever accepted."),
            _AGE,
            _column("Ingest", ".status.endpoints.ingest", wide=True, description="Where logs are sent to."),
            _column("Topic", ".status.topic", wide=True, description="In Kafka."),
        ],
        scale={
            "specReplicasPath": ".spec.collector.replicas",
            "statusReplicasPath": ".status.collector.replicas",
            "labelSelectorPath": ".status.collector.selector",
        },
    )  # fmt: skip


def api_keys() -> dict[str, Any]:
    return _definition(
        "LogStreamAPIKey",
        "logstreamapikeys",
        ["lgk"],
        _root(
            "LogStreamAPIKey is an API key of a LogStream. The key itself is only in a Secret, whose values programs "
            "take with envFrom: LOGSTREAM_API_KEY, LOGSTREAM_INGEST_URL, LOGSTREAM_API_URL.",
            LogStreamAPIKeySpec, LogStreamAPIKeyStatus, LogStreamAPIKey.rules, spec_default=False,
        ),
        columns=[
            *_READY,
            _column("Key", ".status.keyId", description="Public part of the key."),
            _column("Expires", ".status.expiresAt", description="When it stops working."),
            _AGE,
            _column("Stream", ".spec.logStreamRef.name", wide=True, description="Its LogStream."),
            _column("Secret", ".status.secretName", wide=True, description="Where the key is."),
        ],
    )  # fmt: skip


def _root(
    description: str, spec: type[BaseModel], status: type[BaseModel], rules: Rules, *, spec_default: bool
) -> Schema:
    wanted = structural(spec)
    root: Schema = {
        "description": description,
        "type": "object",
        "properties": {
            "apiVersion": {"description": "Version of this schema.", "type": "string"},
            "kind": {"description": "What it is.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": {**wanted, "default": {}} if spec_default else wanted,
            "status": without_defaults(structural(status)),
        },
        "required": ["spec"],
    }
    return {**root, "x-kubernetes-validations": rules} if rules else root


def _definition(
    kind: str,
    plural: str,
    short: list[str],
    schema: Schema,
    *,
    columns: list[dict[str, Any]],
    scale: Schema | None = None,
) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": columns,
        "subresources": {"status": {}, **({"scale": scale} if scale else {})},
    }
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": plural.removesuffix("s"),
        "shortNames": short,
        # Not "logstream": a category goes before a name, and `kubectl get logstream web` would mean both kinds.
        "categories": ["logstream-all"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced",
            "versions": [version],
            "conversion": {"strategy": "None"},
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(definition: dict[str, Any]) -> str:
    return _HEADER + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def files() -> dict[str, str]:
    """By file name."""
    return {"logstreams.yaml": text(log_streams()), "logstreamapikeys.yaml": text(api_keys())}


def main(arguments: Sequence[str] | None = None) -> int:
    """1 with --check, when a file is not what the models make."""
    parser = argparse.ArgumentParser(prog="python -m logstream_operator.spec.crd", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="Write nothing.")
    given = parser.parse_args(arguments)
    stale = False
    for path, wanted in ((folder / name, wanted) for folder in given.folders for name, wanted in files().items()):
        if not given.check:
            path.write_text(wanted)
        elif not path.is_file() or path.read_text() != wanted:
            sys.stderr.write(f"{path} is not what the models make\n")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
