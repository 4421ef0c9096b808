"""HTTP in, the log out: decode, check, encode once, answer 202 when it is durable."""

from logstream.collector.app import create_app
from logstream.collector.server import serve

__all__ = ["create_app", "serve"]
