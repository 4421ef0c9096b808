"""What keeps the client from logging into itself, and from recursing through a value that logs while it is printed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_DEPTH = 6
"""How deep `taking` may be nested: a value whose text is made by code that logs. A handler and its client take two."""


class _State(threading.local):
    sending = False
    depth = 0


_state = _State()


def is_sending() -> bool:
    """Whether this thread sends."""
    return _state.sending


@contextmanager
def sending() -> Iterator[None]:
    """Within it this thread sends: what httpx and others log here is not taken."""
    before, _state.sending = _state.sending, True
    try:
        yield
    finally:
        _state.sending = before


class _Taking:
    # A class, for it is entered twice a record: a third of the time of a generator.
    def __enter__(self) -> bool:
        _state.depth += 1
        return not _state.sending and _state.depth <= MAX_DEPTH

    def __exit__(self, *_: object) -> None:
        _state.depth -= 1


taking = _Taking()
"""Around making one record; enters with False when it must be left alone."""
