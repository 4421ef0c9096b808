"""The kubectl plugin's pure parts: which key and pod it takes, what it makes of times, counts and errors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstream.cli.failure import Failure
from logstream_kubectl import ages, resources, view
from logstream_kubectl.advice import advise
from logstream_kubectl.kubectl import advise as advise_error
from logstream_kubectl.kubectl import checked
from logstream_kubectl.options import Form
from logstream_kubectl.rates import Rates
from logstream_kubectl.top import Screen, measure

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def key(name: str, *scopes: str, ready: bool = True, stream: str = "shop", **spec: Any) -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": str(ready), "reason": "InUse"}]}
    whole = {"logStreamRef": {"name": stream}, "scopes": list(scopes), **spec}
    return {"metadata": {"name": name}, "spec": whole, "status": status}


def test_the_key_that_works_and_may_least_is_taken() -> None:
    found = [
        key("all", "admin", "ingest", "read"),
        key("reader", "read"),
        key("fresh", "read", ready=False),
        key("revoked", "read", revoked=True),
        key("expired", "read", expiresAt="2026-01-31T11:59:59Z"),
        key("sender", "ingest"),
        key("stranger", "read", stream="till"),
        {**key("leaving", "read"), "metadata": {"name": "leaving", "deletionTimestamp": "2026-01-31T12:00:00Z"}},
    ]
    names = [resources.name_of(one) for one in resources.keys_for(found, "shop", "read", NOW)]
    assert names == ["reader", "all", "fresh"]


def test_only_ready_pods_are_forwarded_to() -> None:
    def pod(name: str, ready: str | None, **metadata: str) -> dict[str, Any]:
        said = [] if ready is None else [{"type": "Ready", "status": ready}]
        return {"metadata": {"name": name, **metadata}, "status": {"conditions": said}}

    found = [
        pod("young", "True", creationTimestamp="2026-01-31T11:00:00Z"),
        pod("old", "True", creationTimestamp="2026-01-30T11:00:00Z"),
        pod("leaving", "True", deletionTimestamp="2026-01-31T12:00:00Z"), pod("starting", "False"), pod("new", None),
    ]  # fmt: skip
    assert [resources.name_of(one) for one in resources.ready_pods(found)] == ["old", "young"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert ages.span(seconds) == text


def test_ends() -> None:
    assert ages.until(None, NOW) == "never"
    assert ages.until(NOW + timedelta(hours=3), NOW) == "in 3h"
    assert ages.until(NOW - timedelta(days=3), NOW) == "3d ago"
    assert [ages.colour(NOW + timedelta(days=days), NOW) for days in (-1, 6, 8)] == ["red", "yellow", ""]


@pytest.mark.parametrize("name", ["", "Shop", "-o", "--all", "a/b", "a b", "a.", "x" * 254, "shop\n"])
def test_what_kubectl_could_take_for_something_else_is_no_name(name: str) -> None:
    with pytest.raises(Failure) as failure:
        checked(name, resources.LOGSTREAM)
    assert failure.value.status == 2


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('error: the server doesn\'t have a resource type "logstreams"', "install the operator"),
        (
            'Error from server (Forbidden): secrets "x" is forbidden: User "it" cannot get resource "secrets"',
            'cannot get resource "secrets"; ask for a role that may, and check it with: kubectl auth can-i get secrets',
        ),
        ("error: You must be logged in to the server (Unauthorized)", "kubectl auth whoami"),
        ('error: context "x" does not exist', "kubectl config get-contexts"),
        (
            "E0131 12:00:00.000000 1 memcache.go:265] x\nThe connection to the server 127.0.0.1:1 was refused - did",
            "the API server cannot be reached (The connection to the server 127.0.0.1:1 was refused",
        ),
        ("Unable to connect to the server: net/http: TLS handshake timeout", "kubectl cluster-info"),
        ('Error from server (NotFound): namespaces "x" not found', "there is no namespace x; see"),
        ("", "without a word"),
        ("error: something else", "something else"),
    ],
)
def test_errors_of_kubectl_say_what_to_do(told: str, said: str) -> None:
    assert said in advise_error(told, "get", "secrets")


def test_a_rate_is_of_changes_not_of_looks() -> None:
    rates = Rates()
    for at, accepted in ((0, 100), (5, 100), (7, 1000), (10, 1000), (17, 2000), (20, 2000), (27, 3000)):
        rates.observe(at, {"accepted": accepted, "stored": accepted // 2})
    assert rates.at(28) == (100.0, 50.0, 0.0)
    assert rates.at(27 + 31) == (0.0, 0.0, 0.0)


def test_a_rate_is_unknown_at_first_and_nothing_when_nothing_changes() -> None:
    rates = Rates()
    assert rates.at(0) is None
    rates.observe(0, {"accepted": 5})
    assert rates.at(1) is None
    assert rates.at(31) == (0.0, 0.0, 0.0)
    # When the first count was written is not known.
    rates.observe(40, {"accepted": 500})
    assert rates.at(41) is None


def test_counts_that_begin_anew_make_no_rate_below_nothing() -> None:
    rates = Rates()
    for at, accepted in ((0, 100), (10, 200), (20, 300), (30, 5), (40, 15), (50, 25)):
        rates.observe(at, {"accepted": accepted})
    assert rates.at(51) == (1.0, 0.0, 0.0)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 10**12)), max_size=20))
def test_rates_are_never_negative(looks: list[tuple[float, int]]) -> None:
    rates, at = Rates(), 0.0
    for seconds, accepted in looks:
        at += seconds
        rates.observe(at, {"accepted": accepted})
        assert all(rate >= 0 for rate in rates.at(at) or ())


def test_top_forgets_streams_that_are_gone() -> None:
    def stream(uid: str) -> dict[str, Any]:
        return {"metadata": {"name": "shop", "namespace": "it", "uid": uid}, "status": {"accepted": 1}}

    seen: dict[str, Rates] = {}
    measure([stream("1")], seen, 0.0)
    rows = measure([stream("2")], seen, 1.0)
    assert set(seen) == {"2"}
    assert (rows[0]["stream"], rows[0]["acceptedPerSecond"]) == ("shop", None)


def test_top_draws_in_place_and_no_more_than_a_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("logstream.cli.output.in_terminal", lambda: True)
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "100")
    streams = [
        {"metadata": {"name": f"s{index}", "namespace": "it", "uid": str(index)}, "status": {"lag": index}}
        for index in range(9)
    ]
    screen = Screen(Form.TABLE)
    screen.draw(measure(streams, {}, 0.0))
    screen.draw(measure(streams[:1], {}, 0.0))
    first, second = capsys.readouterr().out.split("\033[5F")
    assert first.startswith("\033[J")
    assert len(first.splitlines()) == 5
    assert "… 6 more" in first
    assert "s0" in second


def test_what_others_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    view.table(("name", "empty", "message"), [("shop", "-", "\033[2Jgone\nnext"), ("till", "", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "MESSAGE"]
    assert "\\x1b[2Jgone\\nnext" in lines[1]


def test_there_is_nothing_to_do_about_a_stream_that_is_well() -> None:
    stream = {
        "metadata": {"name": "shop", "namespace": "it", "generation": 2},
        "spec": {},
        "status": {
            "observedGeneration": 2, "deadLettered": 0, "oldestUnsavedSeconds": 1.0, "quotaUse": {"bytesPercent": 10},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
        },
    }  # fmt: skip
    assert advise(stream, [key("sender", "ingest")], str, NOW) == []
    said = advise({**stream, "status": {**stream["status"], "observedGeneration": 1}}, [], str, NOW)  # type: ignore[dict-item]
    assert "the operator has not seen its last change yet" in said[0]
    assert "it has no key" in said[1]
