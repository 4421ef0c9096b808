"""A collector that is only HTTP: what a sender makes of its answers, and what arrives."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector(ThreadingHTTPServer):
    """Keeps each body once per Idempotency-Key. `healthy` requests are answered, those after them with 503."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.healthy = 1_000_000
        self.bodies: dict[str, bytes] = {}
        self.repeats = 0
        self.lose_answer = False
        self.refusal = (503, "log_full", "the log is full")
        self.before: Callable[[int], None] = lambda number: None
        """Is called with the number of each request, from 1, before it is answered."""
        self.requests = 0

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for body in self.bodies.values() for line in body.splitlines()]


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key, known = self.headers["Idempotency-Key"], self.server.bodies
        self.server.requests += 1
        self.server.before(self.server.requests)
        self.server.healthy -= 1
        if self.server.healthy < 0 and not self.server.lose_answer:
            status, code, message = self.server.refusal
            self.answer(status, {"error": {"code": code, "message": message}})
            return
        if key in known:
            self.server.repeats += 1
            assert known[key] == body
        known[key] = body
        if self.server.healthy < 0:
            # Taken, but the sender does not get to know.
            self.close_connection = True
            return
        self.answer(202, {"status": "accepted", "accepted": body.count(b"\n") + 1, "rejected": []})

    def answer(self, status: int, value: dict[str, object]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that serves until the block ends."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
