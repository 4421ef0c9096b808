"""A child that ends when its parent does, however that ends (Linux). Standard library only."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with(parent: int) -> None:
    """Called in the child between fork and exec: SIGKILL when the thread of `parent` that forked has ended.

    So it is for parents with one thread. What changes its user afterwards has to ask again.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
