"""Streams of a processor: those there are whose topics and tables are there too."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logstream import logs
from logstream.auth.streams import StreamInfo
from logstream.errors import LogStreamError, StoreUnavailable
from logstream.run.provision import Provisioner
from logstream.storage.store import Store
from logstream.stream import Stream

Infos = Callable[[], Sequence[StreamInfo]]
"""The streams there are now, such as `Gate.streams`."""

_LOOK_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0

_log = logs.get_logger("streams")


@dataclass(slots=True)
class _Missing:
    reason: str
    next_try: float
    pause: float


class PreparedStreams:
    """`logstream.processor.StreamSource`. Without its table the store would refuse what it should be asked to wait for.

    provisioner: makes what is missing; None: somebody else does, and it is waited for.
    """

    def __init__(self, infos: Infos, store: Store, provisioner: Provisioner | None) -> None:
        self._infos = infos
        self._store = store
        self._provisioner = provisioner
        self._ready: dict[Stream, int] = {}
        self._missing: dict[Stream, _Missing] = {}
        self._first = asyncio.Event()

    def current(self) -> Sequence[Stream]:
        there = {info.stream for info in self._infos()}
        return [stream for stream in self._ready if stream in there]

    async def first(self) -> None:
        """Wait until there is a stream to serve."""
        await self._first.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Prepare new streams and follow retention until `stop` is set; what fails is tried again."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            infos = self._infos()
            for gone in (self._ready.keys() | self._missing.keys()) - {info.stream for info in infos}:
                self._ready.pop(gone, None)
                self._missing.pop(gone, None)
            for info in infos:
                waiting = self._missing.get(info.stream)
                due = waiting is None or waiting.next_try <= loop.time()
                if due and self._ready.get(info.stream) != info.retention_days and not stop.is_set():
                    await self._try(info)
            next_try = min((missing.next_try for missing in self._missing.values()), default=loop.time() + 60)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_SECONDS, max(0.0, next_try - loop.time()))):
                    await stop.wait()

    async def _try(self, info: StreamInfo) -> None:
        try:
            if self._provisioner is not None:
                await self._provisioner.make(info)
            else:
                await self._store.check([info.stream])
        except LogStreamError as error:
            known = self._missing.get(info.stream)
            pause = min(_LONGEST_PAUSE, known.pause * 1.5) if known else _FIRST_PAUSE
            if known is None or known.reason != error.message:
                _log.warning("stream_not_ready", stream=info.stream.name, reason=error.message)
            now = asyncio.get_running_loop().time()
            self._missing[info.stream] = _Missing(error.message, now + pause, pause)
            return
        if info.stream not in self._ready:
            _log.info("stream_ready", stream=info.stream.name)
        self._ready[info.stream] = info.retention_days
        self._missing.pop(info.stream, None)
        self._first.set()

    async def check(self) -> None:
        """Raises StoreUnavailable with the first reason why a stream is not ready; `schema` in /readyz."""
        for info in self._infos():
            if info.stream not in self._ready:
                missing = self._missing.get(info.stream)
                raise StoreUnavailable(f"stream {info.stream.name}: {missing.reason if missing else 'not yet made'}")
