"""How many files and connections a process may have open. Standard library only."""

import contextlib
import resource

WANTED = 65_536


def raise_limit() -> None:
    """Ask for `WANTED`, as far as the system allows it to this user; children inherit it.

    A shell often gives 256 or 1,024, and each connection is a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
