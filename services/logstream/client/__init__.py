"""A small client for programs: records go to a collector in batches, without the program waiting.

    import logging
    from logstream.client import LogStreamHandler

    logging.basicConfig(level=logging.INFO, handlers=[LogStreamHandler(service="shop")])

Needs httpx and msgspec, and nothing of the server.
"""

from logstream.client.client import Client, Stats
from logstream.client.handler import LogStreamHandler

__all__ = ["Client", "LogStreamHandler", "Stats"]
