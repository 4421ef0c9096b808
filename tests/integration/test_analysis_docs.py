"""Every request of docs/analysis.md is sent, and its answer compared."""

import json
import re
from pathlib import Path

import pytest
from tests.support.api import running_api
from tests.support.engine import EngineProcess

from logstream.api import analysis
from logstream.query import discover, facets, histogram, values
from logstream.query.patterns import counted
from logstream.query.time import parse_time
from logstream.record import Record, parse_level

pytestmark = pytest.mark.engine

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()
EXAMPLES = re.findall(r"^```\nGET (\S+)\n```\n```json\n(.*?)\n?```$", PAGE, re.MULTILINE | re.DOTALL)


def _record(line: str) -> Record:
    sent = json.loads(line)
    level = parse_level(sent["level"])
    assert level is not None
    return Record(
        parse_time(sent["timestamp"], "timestamp"), sent["service"], int(level), sent["message"], sent["metadata"]
    )


async def test_every_request_is_answered_as_the_page_says(tmp_path: Path, engine: EngineProcess):
    lines = [_record(line) for line in re.findall(r'^\{"timestamp".*\}$', PAGE.partition("```\n")[0], re.MULTILINE)]
    assert (len(lines), len(EXAMPLES)) == (8, PAGE.count("\nGET "))
    async with running_api(tmp_path, engine.url) as api:
        await api.store_all(lines)
        for path, wanted in EXAMPLES:
            answer = await api.client.get(path, headers=api.headers)
            assert answer.json() == json.loads(wanted), path


def test_the_bounds_of_the_page_are_those_of_the_code():
    for text in (
        f"More than {histogram.MAX_BUCKETS:,} are refused",
        f"The {histogram.MAX_SERIES} most frequent values",
        f"({analysis.DEFAULT_VALUES}, at most {analysis.MAX_VALUES})",
        f"up to {facets.MAX_FIELDS}, separated",
        f"the newest {facets.SAMPLED_LINES:,} lines",
        f"more than {values.EXACT_VALUES:,} values",
        f"first {values.VALUE_CHARACTERS} characters",
        f"the newest {discover.SAMPLED_LINES:,} lines",
        f"more than the {discover.MAX_NAMES:,} metadata keys",
        f"({analysis.DEFAULT_PATTERNS}, at most {analysis.MAX_PATTERNS:,})",
        f"The {counted.MAX_SHAPES:,} most frequent shapes",
    ):
        assert text in PAGE.replace("\n", " "), text
