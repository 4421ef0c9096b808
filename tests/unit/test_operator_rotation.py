"""When a key is replaced, and when the one before it ends."""

from dataclasses import replace
from typing import Any

from logstream.auth.api_keys import ApiKey
from logstream.auth.principal import Scope
from logstream.clock import NS_PER_SECOND
from logstream_operator.reconcile.rotation import ROTATE, end_of_previous, next_look, wanted, why_new
from logstream_operator.spec import LogStreamAPIKey

NOW = 1_800_000_000 * NS_PER_SECOND
HOUR = 3600 * NS_PER_SECOND
KEY = ApiKey("abc", "k", "shop", frozenset({Scope.INGEST}), None, NOW - HOUR)


def resource(spec: dict[str, Any] | None = None, annotations: dict[str, str] | None = None) -> LogStreamAPIKey:
    return LogStreamAPIKey.parse(
        {
            "metadata": {"name": "k", "namespace": "n", "uid": "u", "annotations": annotations or {}},
            "spec": {"logStreamRef": {"name": "shop"}, **(spec or {})},
        }
    )


def test_a_key_stays_without_a_reason() -> None:
    assert why_new(wanted(resource()), KEY, NOW) is None
    assert why_new(wanted(resource()), KEY, NOW + 10**6 * HOUR) is None
    assert next_look(wanted(resource()), KEY, [], NOW) is None


def test_reasons_for_another_key() -> None:
    due = wanted(resource({"rotation": {"every": "1h", "overlap": "10m"}}))
    assert why_new(due, KEY, NOW - 1) is None
    assert why_new(due, KEY, NOW)
    assert why_new(wanted(resource()), None, NOW)
    assert why_new(wanted(resource()), replace(KEY, revoked_at=NOW), NOW)
    assert why_new(wanted(resource({"scopes": ["read"]})), KEY, NOW)


def test_asked_for_by_an_annotation_once() -> None:
    want = wanted(resource(annotations={ROTATE: "2027-01-15T08:00:00Z"}))
    assert want.rotate_at == NOW
    assert why_new(want, KEY, NOW)
    assert why_new(want, replace(KEY, created_at=NOW + 1), NOW + 2) is None
    assert why_new(want, KEY, NOW - 1) is None, "not yet"
    assert wanted(resource(annotations={ROTATE: "soon"})).rotate_at is None


def test_the_one_before_ends_after_the_overlap_and_not_later_than_it_would_have() -> None:
    want = wanted(resource({"rotation": {"every": "2h", "overlap": "1h"}}))
    new = replace(KEY, id="new", created_at=NOW)
    assert end_of_previous(want, KEY, new, NOW) == NOW + HOUR
    assert end_of_previous(want, replace(KEY, expires_at=NOW + 5), new, NOW) == NOW + 5
    assert end_of_previous(want, replace(KEY, expires_at=NOW), new, NOW) is None


def test_rights_that_were_taken_away_end_at_once() -> None:
    want = wanted(resource({"scopes": ["read"]}))
    new = replace(KEY, id="new", scopes=frozenset({Scope.READ}))
    assert end_of_previous(want, KEY, new, NOW) is None
    more = replace(new, scopes=frozenset({Scope.READ, Scope.INGEST}))
    assert end_of_previous(want, KEY, more, NOW) is not None


def test_it_is_looked_at_when_something_comes_due() -> None:
    want = wanted(resource({"rotation": {"every": "2h", "overlap": "1h"}}))
    assert next_look(want, KEY, [], NOW) == 3600.05
    assert next_look(want, KEY, [replace(KEY, expires_at=NOW + 60 * NS_PER_SECOND)], NOW) == 60.05
