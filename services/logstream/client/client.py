"""The client: what a program holds. Taking a record never waits for the network and never raises."""

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from logstream import __version__
from logstream.client import fork, guard
from logstream.client.buffer import POLICIES, Buffer, WhenFull
from logstream.client.encode import encode, flatten, text

if TYPE_CHECKING:
    from logstream.client.sender import Sender

DEFAULT_URL = "http://127.0.0.1:8080"
MIB = 1 << 20
MIN_BUFFER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the client was made, or since the fork: given = the sum of the others but `retries`.

    uncertain: stored by an attempt whose answer was lost; how many of them were rejected then is not known.
    pending: wait in memory or are being sent. last_problem: the last sentence, told or not; empty when none.
    """

    given: int
    accepted: int
    rejected: int
    uncertain: int
    dropped: int
    pending: int
    retries: int
    last_problem: str


class Client:
    """Sends records to a collector from a thread of its own, in batches.

    url, api_key: else LOGSTREAM_INGEST_URL and LOGSTREAM_API_KEY, else this machine's collector and no key.
    service: of records that name none; else the program's name. metadata: added to every record.
    batch_records, batch_bytes, flush_seconds: a batch goes when it has so many records or bytes (before compression;
        at most half of buffer_bytes) or when its first record has waited so long.
    buffer_bytes: memory for records that wait; beyond it `when_full` decides: `drop_oldest`, `drop_newest`, or
        `block`, which waits up to block_seconds for room, once until there is room again, then drops the newest.
    timeout: seconds for each step of a request. exit_seconds: for sending what is left when the program ends.
    at_exit: False when the owner calls `close`. on_problem: gets one sentence when records are refused or cannot be
        sent, each kind once (standard error by default); it is called from the client's thread.

    Raises ValueError for settings that make no sense, and nothing later.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        service: str | None = None,
        metadata: Mapping[str, object] | None = None,
        batch_records: int = 2000,
        batch_bytes: int = MIB,
        flush_seconds: float = 1.0,
        buffer_bytes: int = 32 * MIB,
        when_full: WhenFull = "drop_oldest",
        block_seconds: float = 0.1,
        compress: bool = True,
        timeout: float = 10.0,
        exit_seconds: float = 5.0,
        at_exit: bool = True,
        on_problem: Callable[[str], None] | None = None,
    ) -> None:
        # httpx takes long to import: here, neither with the package nor with the first record, nor amid a fork.
        from logstream.client import sender, transport

        if when_full not in POLICIES:
            raise ValueError(f"when_full must be one of {', '.join(POLICIES)}, not {when_full!r}")
        for name, value in (("batch_records", batch_records), ("batch_bytes", batch_bytes), ("timeout", timeout)):
            if value <= 0:
                raise ValueError(f"{name} must be greater than 0, not {value}")
        if buffer_bytes < MIN_BUFFER_BYTES:
            raise ValueError(f"buffer_bytes must be at least {MIN_BUFFER_BYTES}, not {buffer_bytes}")
        self._url = transport.address(url or os.environ.get("LOGSTREAM_INGEST_URL") or DEFAULT_URL)
        self._api_key = (api_key or os.environ.get("LOGSTREAM_API_KEY") or "").strip()
        if not (self._api_key.isascii() and (self._api_key.isprintable())):
            raise ValueError("api_key has characters that no key has")
        self._service = service or _program()
        self._metadata = dict(flatten(metadata or {}))
        self._flush_seconds = flush_seconds
        self._when_full = when_full
        self._compress = compress
        self._timeout = timeout
        self._exit_seconds = exit_seconds
        self._closed = False
        self._buffer = Buffer(
            buffer_bytes, when_full, block_seconds, batch_records=batch_records, batch_bytes=batch_bytes
        )
        self._problems = sender.Problems(on_problem)
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None
        self._inherited: list[object] = []
        self._make_sender()
        self._exit_hook = partial(_close, weakref.ref(self))
        if at_exit:
            atexit.register(self._exit_hook)
        fork.watch(self)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self,
        message: str,
        *,
        level: str = "info",
        service: str | None = None,
        timestamp: int | None = None,
        metadata: Mapping[Any, Any] | None = None,
        trace_id: str = "",
        span_id: str = "",
    ) -> None:
        """Take one record. timestamp: nanoseconds since the Unix epoch, else now.

        metadata: nested mappings get dotted names; values that are not strings are kept as their JSON text.
        """
        with guard.taking as wanted:
            if not wanted:
                return
            try:
                line = encode(
                    timestamp=time.time_ns() if timestamp is None else timestamp,
                    service=service or self._service,
                    level=level,
                    message=message if type(message) is str else text(message),
                    metadata={**self._metadata, **dict(flatten(metadata))} if metadata else self._metadata,
                    trace_id=trace_id,
                    span_id=span_id,
                )
                if self._closed:
                    self._buffer.drop(1)
                    return
                self._buffer.put(line)
                if self._thread is None:
                    self._start()
            except Exception as error:
                self._buffer.drop(1)
                with guard.sending():
                    self._problems.tell("record", f"a record was dropped: {type(error).__name__}: {error}")

    def flush(self, timeout: float | None = None) -> bool:
        """Send what is here now; whether all of it was settled within `timeout` seconds (exit_seconds by default)."""
        seconds = self._exit_seconds if timeout is None else timeout
        if self._closed or not self._buffer.pending:
            return not self._buffer.pending
        if not self._start():
            return self.close(seconds)
        return self._buffer.settled(seconds)

    def close(self, timeout: float | None = None) -> bool:
        """Send what is here, for at most `timeout` seconds (exit_seconds by default), and take nothing more.

        What is left then is dropped, and said. Whether everything was settled.
        """
        if self._closed:
            return not self._buffer.pending
        deadline = time.monotonic() + (self._exit_seconds if timeout is None else timeout)
        self._closed = True
        atexit.unregister(self._exit_hook)
        if self._buffer.pending and not self._start():
            # A program that is ending can start no thread.
            self._make_sender().deadline = deadline
            self._buffer.close()
            self._run()
        else:
            if self._sender is not None:
                self._sender.deadline = deadline
            self._buffer.close()
            if self._thread is not None:
                self._buffer.settled(max(0.0, deadline - time.monotonic()))
        self._say_lost(self._buffer.pending)
        return not self._buffer.pending and not self._buffer.unreported

    def stats(self) -> Stats:
        """Counts, consistent with one another."""
        with self._buffer.lock:
            totals = self._sender.totals if self._sender is not None else None
            return Stats(
                given=self._buffer.entered,
                accepted=totals.accepted if totals else 0,
                rejected=totals.rejected if totals else 0,
                uncertain=totals.uncertain if totals else 0,
                dropped=self._buffer.dropped,
                pending=self._buffer.pending,
                retries=totals.retries if totals else 0,
                last_problem=self._problems.last,
            )

    # The thread

    def _start(self) -> bool:
        """Start the thread unless it runs; False when the interpreter is ending."""
        with self._buffer.lock:
            if self._thread is not None:
                return True
            self._make_sender()
            thread = threading.Thread(target=self._run, name="logstream-client", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            _in_children_of_multiprocessing(self._exit_hook)
            return True

    def _make_sender(self) -> "Sender":
        from logstream.client.sender import Sender
        from logstream.client.transport import Transport

        if self._sender is None:
            with guard.sending():
                transport = Transport(
                    self._url, self._api_key, timeout=self._timeout, user_agent=f"logstream-client/{__version__}"
                )
            self._sender = Sender(self._buffer, transport, self._problems, compress=self._compress)
        return self._sender

    def _run(self) -> None:
        with guard.sending():
            self._make_sender().run(self._flush_seconds, self._report)

    def _report(self, dropped: int) -> bytes:
        message = f"{dropped} records were dropped by the log client ({self._when_full})"
        metadata = {**self._metadata, "logger": "logstream.client", "dropped": str(dropped)}
        return encode(timestamp=time.time_ns(), service=self._service, level="warn", message=message, metadata=metadata)

    def _say_lost(self, pending: int) -> None:
        lost = pending + self._buffer.unreported
        if lost:
            with guard.sending():
                self._problems.tell(
                    "lost", f"{lost} records were not sent: {self._problems.last or 'no time was left'}"
                )

    # Fork: the records and the connection are the parent's; the child begins empty.

    def before_fork(self) -> None:
        self._buffer.lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._buffer.lock.release()

    def after_fork_in_child(self) -> None:
        if self._sender is not None:
            # Kept, since closing a TLS connection here would end it for the parent.
            self._inherited.append(self._sender)
        self._sender = None
        self._thread = None
        self._buffer.reset()


def _program() -> str:
    name = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return "python" if name in ("", "-c", "-m") else name


def _close(reference: "weakref.ref[Client]") -> None:
    client = reference()
    if client is not None:
        client.close()


def _in_children_of_multiprocessing(hook: Callable[[], None]) -> None:
    """Processes of multiprocessing end without atexit, but run finalizers of their own."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, hook, exitpriority=0)
