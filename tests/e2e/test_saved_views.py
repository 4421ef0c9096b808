"""`logstream saved`: a question is kept, shared, asked again and deleted."""

import pytest
from tests.support.up import Cli, eventually

pytestmark = pytest.mark.engine


def test_a_view_is_saved_and_run(cli: Cli) -> None:
    cli("send", "card declined", "--service", "till", "--level", "error", "-m", "user_id=42")
    cli("send", "card taken", "--service", "till", "--level", "info")
    eventually(lambda: len(cli.rows("search", "--service", "till")) == 2, "both lines")
    said = cli("saved", "add", "declined", "service:till", "declined", "--since", "24h", "-c", "level", "-c", "user_id")
    assert said.startswith("declined is saved")
    cli("saved", "add", "by level", "service:till | stats count() by level", "--shared")
    assert [(row["name"], row["shared"], row["mine"]) for row in cli.rows("saved", "list")] == [
        ("by level", True, True),
        ("declined", False, True),
    ]
    assert [line.split() for line in cli("saved", "run", "declined").splitlines()] == [
        ["level", "user", "id"],
        ["error", "42"],
    ]
    assert [row["message"] for row in cli.rows("saved", "run", "declined")] == ["card declined"]
    assert cli.rows("saved", "run", "by level") == [
        {"level": "info", "count()": 1},
        {"level": "error", "count()": 1},
    ]
    again = cli.run("saved", "add", "declined", "service:till")
    assert (again.returncode, "has a view called 'declined' already" in again.stderr) == (1, True)
    cli("saved", "add", "declined", "service:till", "--replace")
    assert len(cli.rows("saved", "run", "declined")) == 2
    assert len(cli("saved", "run", "declined").splitlines()) == 2
    wrong = cli.run("saved", "add", "wrong", "level:warn (")
    assert (wrong.returncode, "\n  level:warn (\n              ^" in wrong.stderr) == (2, True)
    for name in ("declined", "by level"):
        assert cli("saved", "rm", name) == f"{name} is deleted\n"
    assert cli.run("saved", "show", "declined").returncode == 1
