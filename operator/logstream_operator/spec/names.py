"""Names of what is made for a resource: valid wherever they are used, and never two the same."""

import hashlib

MAX_NAME = 63
"""Of most names and of every label's value: RFC 1123's label."""
_HASH = 8
NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$"
"""Of a LogStream: see `logstream.stream.make_stream`."""


def child_name(owner: str, *parts: str, limit: int = MAX_NAME) -> str:
    """`owner-part-part`, at most `limit` characters long.

    What is too long loses the end of the owner's name and gains a hash of the whole: two owners that begin alike
    stay apart. The parts are always whole, because people look for them.
    """
    tail = "-".join(parts)
    whole = f"{owner}-{tail}" if tail else owner
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_HASH]
    end = f"-{digest}-{tail}" if tail else f"-{digest}"
    room = limit - len(end)
    if room < 1:
        raise ValueError(f"no room for {tail!r} in a name of {limit} characters")
    return owner[:room].rstrip("-.") + end
