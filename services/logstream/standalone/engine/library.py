"""Loading chDB with a small footprint: before anything else imports it. Figures: docs/adr/0002-embedded-engine.md."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

from logstream.settings import MIB
from logstream.standalone.engine.config import TIMEZONE

# One arena: pages freed by one thread serve the next instead of adding up per CPU. 300 ms: long enough
# for the next insert to find its pages, short enough that a burst is given back.
_JEMALLOC = "percpu_arena:disabled,narenas:1,dirty_decay_ms:300"
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def load() -> Callable[[str], Any]:
    """`chdb.connect`. `JE_MALLOC_CONF` in the environment takes precedence over our allocator options."""
    os.environ.setdefault("JE_MALLOC_CONF", _JEMALLOC)
    os.environ["TZ"] = TIMEZONE  # chDB has no other way to be told its default time zone
    _keep_freed_memory()
    # chDB imports pyarrow, and with it numpy, when it finds them, and does without: 37 MB less.
    sys.modules.setdefault("pyarrow", None)  # type: ignore[arg-type]
    import chdb

    connect: Callable[[str], Any] = chdb.connect
    return connect


def _keep_freed_memory() -> None:
    """Let Python reuse the memory of request bodies; by default each is mapped and faulted in anew.

    Halves the CPU of receiving a body. Does nothing where the C library has no mallopt.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (
            (_M_MMAP_THRESHOLD, 32 * MIB), (_M_TRIM_THRESHOLD, 32 * MIB), (_M_TOP_PAD, MIB), (_M_ARENA_MAX, 2),
        ):  # fmt: skip
            mallopt(option, value)
