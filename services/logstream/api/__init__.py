"""Search, live tail and administration over HTTP."""

from logstream.api.server import serve

__all__ = ["serve"]
