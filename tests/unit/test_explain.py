"""Reading ClickHouse's plans."""

import json
from typing import Any

from logstream.query.explain import Selected, parse_plan


def node(kind: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Node Id": f"{kind}_1", "Plans": list(children), **more}


def step(kind: str, parts: tuple[int, int], granules: tuple[int, int], **more: Any) -> dict[str, Any]:
    return {
        "Type": kind, "Initial Parts": parts[0], "Selected Parts": parts[1],
        "Initial Granules": granules[0], "Selected Granules": granules[1], **more,
    }  # fmt: skip


def plan(*reads: dict[str, Any]) -> str:
    return json.dumps([{"Plan": node("Expression", node("Union", *reads))}])


def test_indexes_of_the_table_and_of_a_projection() -> None:
    table = node(
        "ReadFromMergeTree",
        Description="db.logs",
        Indexes=[
            step("PrimaryKey", (5, 4), (40, 30), Keys=["service"], Condition="(service in ['a', 'a'])"),
            step("Skip", (4, 2), (30, 3), Name="message_words", Description="tokenbf_v1 GRANULARITY 1"),
        ],
    )
    projection = node(
        "ReadFromMergeTree", Description="per_minute", Indexes=[step("PrimaryKey", (2, 2), (7, 7), Condition="true")]
    )
    indexes, projections = parse_plan(plan(table, projection), "db.logs")
    assert projections == ["per_minute"]
    key, skip, whole = indexes
    assert (key.source, key.type, key.name, key.keys, key.condition) == (
        "logs", "PrimaryKey", None, ("service",), "(service in ['a', 'a'])",
    )  # fmt: skip
    assert (key.parts, key.granules) == (Selected(4, 5), Selected(30, 40))
    assert (skip.name, skip.description, skip.condition) == ("message_words", "tokenbf_v1 GRANULARITY 1", None)
    assert (whole.source, whole.condition, whole.granules) == ("per_minute", None, Selected(7, 7))


def test_a_plan_that_reads_no_part() -> None:
    assert parse_plan(plan(node("ReadFromPreparedSource", Description="Optimized trivial count")), "db.logs") == (
        [],
        [],
    )
