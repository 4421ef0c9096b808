"""What happens to clients when the process forks."""

import os
import threading
import weakref
from typing import Protocol


class Forked(Protocol):
    """Holds its locks over a fork, so that the child does not find them held by a thread that is not there."""

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


class _Watch:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._watched: weakref.WeakSet[Forked] = weakref.WeakSet()
        self._held: list[Forked] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def add(self, watched: Forked) -> None:
        with self._lock:
            self._watched.add(watched)

    def _before(self) -> None:
        self._lock.acquire()
        self._held = list(self._watched)
        for watched in self._held:
            watched.before_fork()

    def _in_parent(self) -> None:
        for watched in self._held:
            watched.after_fork_in_parent()
        self._held = []
        self._lock.release()

    def _in_child(self) -> None:
        for watched in self._held:
            watched.after_fork_in_child()
        self._held = []
        self._lock = threading.RLock()


watch = _Watch().add
