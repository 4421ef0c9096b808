"""schemathesis against the OpenAPI document that a real `logstream up` serves, as an admin and as a stranger.

Left out: `/api/v1/tail` and `/ws`, which answer without end (tests/integration/test_tail.py has them), and
`POST /api/v1/logout`, which would end the session that all other cases need.
"""

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from benchmarks import harness
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    not_a_server_error,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

# Thousands of requests: the time counts for a machine that does other things besides.
pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(900)]

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, unsupported_method,
]  # fmt: skip
STRANGER = "nobody"
ENDLESS = r"^(/api/v1/tail|/ws)$"
ENDS_THE_SESSION = r"^/api/v1/logout$"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Platform]:
    folder = tmp_path_factory.mktemp("schema")
    running = harness.start(folder / "data", log=folder / "platform.log")
    yield running
    assert running.stop() == 0
    assert '"level": "error"' not in (folder / "platform.log").read_text()


@pytest.fixture(scope="module")
def session(platform: harness.Platform) -> str:
    """The token of the first admin."""
    admin = json.loads((platform.data / "first-login.json").read_text())["admin"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{platform.api_port}/api/v1/login",
        data=json.dumps({"email": admin["email"], "password": admin["password"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        token: str = json.load(answer)["token"]
        return token


@pytest.fixture(scope="module")
def document(platform: harness.Platform) -> Any:
    found = schemathesis.openapi.from_url(f"http://127.0.0.1:{platform.api_port}/openapi.json")
    return found.exclude(path_regex=ENDLESS).exclude(path_regex=ENDS_THE_SESSION)


def run_all(document: Any, platform: harness.Platform, credential: str, examples: int) -> None:
    """Random requests, valid and not, to every operation; all answers must be as the document says.

    Raises an ExceptionGroup with one failure per operation.
    """
    failures: list[BaseException] = []
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        ingest = operation.path == "/ingest"
        key = platform.api_key if ingest and credential != STRANGER else credential
        arguments = {
            "base_url": f"http://127.0.0.1:{platform.collector_port if ingest else platform.api_port}",
            "headers": {"Authorization": f"Bearer {key}"},
            "checks": CHECKS,
            "timeout": 30,
        }
        try:
            _property(operation, arguments, examples)()
        except Exception as error:
            error.add_note(operation.label)
            failures.append(error)
    if failures:
        raise BaseExceptionGroup("operations that are not as documented", failures)


def _property(operation: Any, arguments: dict[str, Any], examples: int) -> Callable[[], None]:
    valid, invalid = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @seed(3)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=valid | invalid)
    def check(case: Any) -> None:
        case.call_and_validate(**arguments)

    return check


def test_an_admin_gets_what_the_document_says(document: Any, platform: harness.Platform, session: str) -> None:
    run_all(document, platform, session, examples=30)


def test_a_stranger_gets_what_the_document_says(document: Any, platform: harness.Platform) -> None:
    run_all(document, platform, STRANGER, examples=5)
