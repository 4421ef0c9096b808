"""What the OpenAPI document promises, asked with generated requests of a real `logstream up` by schemathesis."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.support.up import Cli, Up

pytestmark = pytest.mark.engine

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, ignored_auth, unsupported_method,
]  # fmt: skip


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    running = Up(tmp_path_factory.mktemp("up"))
    try:
        yield running.ready()
        assert running.stop() == 0
    finally:
        running.sweep()


@dataclass
class Caller:
    """session: an admin's. key: of all scopes on the stream; it belongs to nobody and cannot log out."""

    session: str
    key: str

    def headers(self, path: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.session if '/users' in path else self.key}"}


@pytest.fixture(scope="module")
def caller(up: Up) -> Caller:
    home = Cli(up.folder / "home")
    home("login", "--file", str(up.data / "first-login.json"))
    scopes = ("--scope", "ingest", "--scope", "read", "--scope", "admin")
    key = home("keys", "create", "fuzz", "--shared", *scopes).strip()
    context = tomllib.loads((home.home / "config.toml").read_text())["contexts"]["local"]
    return Caller(context["session"], key)


FEW = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)


def ask(up: Up, caller: Caller, schema: BaseSchema, server: str) -> int:
    """Generated requests, right ones and wrong ones, for each operation; how many operations."""
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            try:
                cases = operation.as_strategy(generation_mode=mode)

                @FEW
                @given(case=cases)
                def run(case: Case) -> None:
                    case.call_and_validate(
                        base_url=up.url(server), headers=caller.headers(case.operation.path), checks=CHECKS, timeout=30
                    )

                run()
            except Unsatisfiable:
                # Nothing of it can be wrong.
                assert mode is GenerationMode.NEGATIVE, operation.label
        asked += 1
    return asked


def document(up: Up) -> BaseSchema:
    return schemathesis.openapi.from_url(up.url("API") + "/openapi.json")


def test_the_api_answers_as_described(up: Up, caller: Caller) -> None:
    # The tail's good answers have no end, and /ingest is another server's.
    assert ask(up, caller, document(up).exclude(path=["/api/v1/tail", "/ingest"]), "API") > 25


def test_the_collector_answers_as_described(up: Up, caller: Caller) -> None:
    assert ask(up, caller, document(up).include(path="/ingest"), "collector") == 1


def test_it_still_works(up: Up, caller: Caller) -> None:
    home = Cli(up.folder / "after")
    home("send", "after all that", "--api-key", caller.key, "--ingest-url", up.url("collector"))
    assert up.err.count("Traceback") == 0
    assert "internal" not in up.err
