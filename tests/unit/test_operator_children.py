"""When a child is as it should be, and when it has to be applied."""

from typing import Any

import pytest

from logstream_operator.cluster.client import _managers
from logstream_operator.cluster.objects import APPLIED, controlled_by, holds, sealed


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ({"a": 1}, {"a": 1, "defaulted": True}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"c": [{"name": "x", "v": 1}]}, {"c": [{"name": "injected"}, {"name": "x", "v": 1, "d": 0}]}, True),
        ({"c": [{"name": "x", "v": 1}]}, {"c": [{"name": "x", "v": 2}]}, False),
        ({"c": [{"name": "x"}]}, {"c": []}, False),
        ({"empty": {}, "none": None, "list": []}, {}, True),
        ({"zero": 0, "no": False}, {}, False),
    ],
)
def test_everything_that_is_wanted_is_there(wanted: dict[str, Any], live: dict[str, Any], same: bool) -> None:
    assert holds(wanted, live) is same


def test_what_is_not_wanted_any_more_is_found_by_the_hash() -> None:
    before = sealed({"kind": "Service", "metadata": {"name": "a"}, "spec": {"x": 1, "y": 2}})
    after = sealed({"kind": "Service", "metadata": {"name": "a"}, "spec": {"x": 1}})
    assert before["metadata"]["annotations"][APPLIED] != after["metadata"]["annotations"][APPLIED]
    assert not holds(after, before)
    assert sealed({"spec": {"x": 1}, "metadata": {"name": "a"}, "kind": "Service"}) == after


def test_only_a_controller_owns() -> None:
    owned = {"metadata": {"ownerReferences": [{"uid": "u", "controller": True}, {"uid": "v"}]}}
    assert controlled_by(owned, "u")
    assert not controlled_by(owned, "v")
    assert not controlled_by({"metadata": {}}, "u")


def test_who_had_a_field_before() -> None:
    one = 'Apply failed with 1 conflict: conflict with "kubectl-edit" using apps/v1: .spec.replicas'
    two = (
        'Apply failed with 2 conflicts: conflicts with "a" using v1:\n- .x\nconflicts with "logstream-operator":\n- .y'
    )
    assert _managers(one) == ("kubectl-edit",)
    assert _managers(two) == ("a",)
