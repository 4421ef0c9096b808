"""LogStreams and LogStreamAPIKeys to test with, and what each rule of their schema refuses."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


def log_stream(name: str = "web", **spec: Any) -> Object:
    return {"apiVersion": "logstream.dev/v1alpha1", "kind": "LogStream", "metadata": {"name": name}, "spec": spec}


def api_key(name: str = "web-key", **spec: Any) -> Object:
    return {
        "apiVersion": "logstream.dev/v1alpha1",
        "kind": "LogStreamAPIKey",
        "metadata": {"name": name},
        "spec": {"logStreamRef": {"name": "web"}, **spec},
    }


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> Object:
    """`base` with `change` put over it, object by object."""
    found = copy.deepcopy(dict(base))
    for key, value in change.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else copy.deepcopy(value)
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """One rule. good, bad: changes to `base`; words: of the refusal. python: whether the models refuse it too, and not
    only the API server."""

    name: str
    base: Object
    good: Object
    bad: Object
    words: tuple[str, ...]
    python: bool = True


def _spec(name: str, good: Object, bad: Object, *words: str, python: bool = True) -> Case:
    return Case(name, log_stream(), {"spec": good}, {"spec": bad}, words, python)


def _key(name: str, good: Object, bad: Object, *words: str) -> Case:
    return Case(name, api_key(), {"spec": good}, {"spec": bad}, words)


_PLANE = {"dataPlaneRef": {"name": "other"}}
_EXCLUSIVE = "exclude each other: take one away"
_OF_OWNER: dict[str, Any] = {
    "collector": {"replicas": 1},
    "processor": {},
    "api": {"replicas": 1},
    "ingest": {"maxRecords": 10},
    "redaction": {"detectors": ["email"]},
    "connections": {},
    "ingress": {"host": "logs.example.com"},
    "gateway": {"parentRefs": [{"name": "public"}]},
    "dashboard": {"enabled": True},
}


def _pods(**placement: Any) -> Object:
    return {"collector": {"podTemplate": {"spec": placement}}}


CASES: tuple[Case, ...] = (
    *(
        _spec(f"{field} beside dataPlaneRef", _PLANE, {**_PLANE, field: value},
              f"{field} is set on the LogStream that dataPlaneRef names", f"spec.{field}")
        for field, value in _OF_OWNER.items()
    ),
    *(
        Case(f"name {word}", log_stream(), {"metadata": {"name": good}}, {"metadata": {"name": bad}},
             ("metadata.name must be 1 to 50 characters",), python=False)
        for word, good, bad in (
            ("at its limit", "a" * 50, "a" * 51), ("with a digit first", "a1", "1a"), ("with a dot", "a-b", "a.b"),
        )
    ),
    _spec("dataPlaneRef to itself", _PLANE, {"dataPlaneRef": {"name": "web"}},
          "must be another LogStream than this one"),
    _spec("ingress and gateway", {"ingress": {"host": "a.example.com"}},
          {"ingress": {"host": "a.example.com"}, "gateway": {"parentRefs": [{"name": "x"}]}}, _EXCLUSIVE),
    *(
        _spec(f"{component} replicas and autoscaling", {component: {"autoscaling": {"maxReplicas": 4}}},
              {component: {"replicas": 2, "autoscaling": {"maxReplicas": 4}}}, f"{component}.replicas", _EXCLUSIVE)
        for component in ("collector", "processor", "api")
    ),
    *(
        _spec(f"{component} bounds of autoscaling", {component: {"autoscaling": {"minReplicas": 4, "maxReplicas": 4}}},
              {component: {"autoscaling": {"minReplicas": 5, "maxReplicas": 4}}},
              "minReplicas must not be more than maxReplicas")
        for component in ("collector", "processor", "api")
    ),
    _spec("too many replicas", {"api": {"replicas": 500}}, {"api": {"replicas": 501}}, "500"),
    _spec("negative replicas", {"api": {"replicas": 0}}, {"api": {"replicas": -1}}, "spec.api.replicas"),
    _spec("retention too short", {"retention": {"days": 1}}, {"retention": {"days": 0}}, "spec.retention.days"),
    _spec("retention too long", {"retention": {"days": 10_950}}, {"retention": {"days": 10_951}}, "10950"),
    _spec("no partitions", {"topic": {"partitions": 1}}, {"topic": {"partitions": 0}}, "spec.topic.partitions"),
    _spec("quota of nothing", {"quota": {"recordsPerSecond": 0.5}}, {"quota": {"recordsPerSecond": 0}},
          "spec.quota.recordsPerSecond"),
    _spec("body larger than all bodies", {"ingest": {"maxBodyBytes": 2**27, "maxPendingBytes": 2**27}},
          {"ingest": {"maxBodyBytes": 2**27 + 1}}, "maxBodyBytes must not be more than maxPendingBytes"),
    _spec("absurd ingest limit", {"ingest": {"maxRecords": 10_000_000}}, {"ingest": {"maxRecords": 10_000_001}},
          "spec.ingest.maxRecords"),
    _spec("rule with detector and pattern", {"redaction": {"rules": [{"detector": "email"}]}},
          {"redaction": {"rules": [{"detector": "email", "pattern": "x"}]}},
          "needs a detector or a pattern, and not both"),
    _spec("rule with neither", {"redaction": {"rules": [{"name": "a", "pattern": "x"}]}},
          {"redaction": {"rules": [{"name": "a"}]}}, "needs a detector or a pattern, and not both"),
    _spec("hash without a key",
          {"redaction": {"rules": [{"detector": "email", "action": "hash"}],
                         "hashKeyRef": {"name": "redaction", "key": "hash"}}},
          {"redaction": {"rules": [{"detector": "email", "action": "hash"}]}}, "needs redaction.hashKeyRef"),
    _spec("unknown action", {"redaction": {"rules": [{"detector": "email", "action": "drop"}]}},
          {"redaction": {"rules": [{"detector": "email", "action": "eat"}]}}, "Unsupported value"),
    _spec("too many rules", {"redaction": {"rules": [{"name": f"r{i}", "pattern": "x"} for i in range(50)]}},
          {"redaction": {"rules": [{"name": f"r{i}", "pattern": "x"} for i in range(51)]}}, "50 items"),
    _spec("label of the operator", {"api": {"podTemplate": {"metadata": {"labels": {"team": "a"}}}}},
          {"api": {"podTemplate": {"metadata": {"labels": {"app.kubernetes.io/name": "a"}}}}}, "choose another prefix"),
    _spec("annotation of the operator", {"api": {"podTemplate": {"metadata": {"annotations": {"team": "a"}}}}},
          {"api": {"podTemplate": {"metadata": {"annotations": {"logstream.dev/a": "a"}}}}}, "choose another prefix"),
    _spec("value of a label", {"api": {"podTemplate": {"metadata": {"labels": {"a": "b.c_d-e"}}}}},
          {"api": {"podTemplate": {"metadata": {"labels": {"a": "b c"}}}}}, "metadata.labels"),
    _spec("too many labels", {"api": {"podTemplate": {"metadata": {"labels": {f"l{i}": "" for i in range(32)}}}}},
          {"api": {"podTemplate": {"metadata": {"labels": {f"l{i}": "" for i in range(33)}}}}}, "32 items"),
    _spec("effect of a toleration", _pods(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
          _pods(tolerations=[{"key": "a", "effect": "Never"}]), "Unsupported value"),
    _spec("affinity of another kind", _pods(affinity={"nodeAffinity": {}}),
          _pods(affinity={"a": {}, "b": {}, "c": {}, "d": {}}), "affinity", python=False),
    _spec("quantity", {"api": {"resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": 2}}}},
          {"api": {"resources": {"requests": {"cpu": "much"}}}}, "spec.api.resources.requests.cpu"),
    _spec("host", {"ingress": {"host": "a.example.com"}}, {"ingress": {"host": "http://a"}}, "spec.ingress.host"),
    _spec("secret without a name", {"connections": {"kafka": {"secretRef": {"name": "kafka"}}}},
          {"connections": {"kafka": {}}}, "spec.connections.kafka.secretRef"),
    _spec("deletionPolicy", {"deletionPolicy": "Delete"}, {"deletionPolicy": "Maybe"}, "Unsupported value"),
    _key("overlap not less than every", {"rotation": {"every": "24h", "overlap": "23h59m"}},
         {"rotation": {"every": "24h", "overlap": "24h"}}, "rotation.overlap must be less than rotation.every"),
    _key("rotation too often", {"rotation": {"every": "1m", "overlap": "10s"}},
         {"rotation": {"every": "59s", "overlap": "10s"}}, "rotation.every must be 1m to 87600h"),
    _key("rotation too seldom", {"rotation": {"every": "87600h"}}, {"rotation": {"every": "87601h"}},
         "rotation.every must be 1m to 87600h"),
    _key("duration with days", {"rotation": {"every": "720h"}}, {"rotation": {"every": "30d"}},
         "spec.rotation.every"),
    _key("no scopes", {"scopes": ["read"]}, {"scopes": []}, "spec.scopes"),
    _key("scope twice", {"scopes": ["read", "ingest"]}, {"scopes": ["read", "read"]}, "duplicate entries"),
    _key("unknown scope", {"scopes": ["admin"]}, {"scopes": ["root"]}, "Unsupported value"),
    _key("expiry", {"expiresAt": "2030-01-01T00:00:00Z"}, {"expiresAt": "tomorrow"}, "spec.expiresAt"),
    _key("name of a Secret", {"secretName": "a.b-c"}, {"secretName": "A_b"}, "spec.secretName"),
    _key("no stream", {"logStreamRef": {"name": "web"}}, {"logStreamRef": None}, "spec.logStreamRef"),
)  # fmt: skip
