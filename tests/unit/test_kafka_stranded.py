"""A client that lost every broker for good is told from one that cannot reach them."""

import json

import pytest

from logstream.bus.kafka.stranded import Stranded

SECOND = 1_000_000
COORDINATOR = {"source": "logical", "state": "INIT", "stateage": 500 * SECOND}


def report(*brokers: tuple[str, str, float]) -> str:
    """Source, state, seconds in that state of each."""
    told = {
        f"127.0.0.1:{number}": {"source": source, "state": state, "stateage": int(seconds * SECOND)}
        for number, (source, state, seconds) in enumerate(brokers)
    }
    return json.dumps({"brokers": told | {"GroupCoordinator": COORDINATOR}})


@pytest.mark.parametrize("brokers", [(), (("learned", "INIT", 100),)], ids=["none", "one that is let go of"])
def test_nobody_left_to_connect_to(brokers: tuple[tuple[str, str, float], ...]) -> None:
    stranded = Stranded()
    stranded.note(report(*brokers))
    assert not stranded.is_so
    stranded.note(report(*brokers))
    assert stranded.is_so


@pytest.mark.parametrize(
    "brokers",
    [
        (("configured", "INIT", 1.5),),
        (("learned", "INIT", 100), ("learned", "CONNECT", 0.1)),
        (("learned", "INIT", 100), ("learned", "TRY_CONNECT", 1.9)),
        (("learned", "INIT", 100), ("learned", "UP", 500)),
        (("learned", "DOWN", 0),),
    ],
    ids=["resting", "connecting", "waiting", "connected", "refused"],
)
def test_who_goes_on_trying_is_not(brokers: tuple[tuple[str, str, float], ...]) -> None:
    stranded = Stranded()
    for _ in range(5):
        stranded.note(report(*brokers))
    assert not stranded.is_so


def test_who_found_one_again_is_not() -> None:
    stranded = Stranded()
    stranded.note(report())
    stranded.note(report(("configured", "CONNECT", 0.1)))
    stranded.note(report())
    assert not stranded.is_so
