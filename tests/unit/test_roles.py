"""The table of roles: in the code and in the docs."""

from pathlib import Path

import pytest

from logstream.auth.principal import Principal, Scope
from logstream.auth.roles import RIGHTS, ROLE_SCOPES, Action, Role, may, require
from logstream.errors import Forbidden

DOCS = Path(__file__).parents[2] / "docs" / "accounts.md"


def person(role: Role) -> Principal:
    return Principal("user", "u", "u", ROLE_SCOPES[role], role=role.value)


def key(*scopes: Scope, stream: str | None = "default") -> Principal:
    return Principal("key", "k", "k", frozenset(scopes), stream=stream)


def test_the_docs_have_the_table_of_the_code() -> None:
    section = DOCS.read_text().split("## Who may do what")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    assert rows[0] == ["Action", *(role.value for role in Role), "key"]
    expected = []
    for action, right in RIGHTS.items():
        scope = "no" if right.scope is None else f"`{right.scope}`" + (", all streams" if right.all_streams else "")
        expected.append([action.value, *("yes" if role in right.roles else "no" for role in Role), scope])
    assert rows[2:] == expected


def test_every_action_has_a_right_and_admins_have_all() -> None:
    assert set(RIGHTS) == set(Action)
    assert all(Role.ADMIN in right.roles for right in RIGHTS.values())


def test_scopes_and_rights_of_a_role_agree() -> None:
    for role in Role:
        assert (Scope.READ in ROLE_SCOPES[role]) == may(person(role), Action.READ_LOGS)
        assert (Scope.INGEST in ROLE_SCOPES[role]) == may(person(role), Action.SEND_LOGS)
        assert (Scope.ADMIN in ROLE_SCOPES[role]) == may(person(role), Action.USERS)


def test_a_viewer_only_reads() -> None:
    viewer = person(Role.VIEWER)
    assert {action for action in Action if may(viewer, action)} == {
        Action.READ_LOGS,
        Action.SEE_STREAMS,
        Action.OWN_ACCOUNT,
        Action.OWN_VIEWS,
    }


def test_a_key_has_rights_on_its_own_stream_only() -> None:
    mine = key(Scope.ADMIN)
    assert may(mine, Action.CHANGE_STREAMS, stream="default")
    assert not may(mine, Action.CHANGE_STREAMS, stream="other")
    assert not may(mine, Action.USERS)
    assert may(key(Scope.ADMIN, stream=None), Action.USERS)
    assert not may(mine, Action.READ_LOGS), "admin does not include read"
    assert not may(key(*Scope, stream=None), Action.OWN_KEYS)


def test_the_answer_names_role_and_action() -> None:
    with pytest.raises(Forbidden, match="'viewer' has no right to: send logs"):
        require(person(Role.VIEWER), Action.SEND_LOGS)
    with pytest.raises(Forbidden, match="on stream 'other'"):
        require(key(Scope.READ), Action.READ_LOGS, stream="other")


def test_nobody_has_no_rights_but_to_read() -> None:
    anonymous = Principal("anonymous", "anonymous", "anonymous", frozenset({Scope.READ}), stream="default")
    assert {action for action in Action if may(anonymous, action)} == {Action.READ_LOGS, Action.SEE_STREAMS}
