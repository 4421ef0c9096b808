"""What the routes need, made once by the composition root and found at `app.state.services`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection

from logstream.api.running import Reads
from logstream.api.turns import Turns
from logstream.auth.gate import Gate
from logstream.bus.protocol import Bus
from logstream.clock import NS_PER_SECOND, Clock
from logstream.letters.boxes import LetterBoxes
from logstream.query.limits import QueryLimits
from logstream.query.logs import LogReader
from logstream.query.parts import PartTimes
from logstream.query.tail import Tail, TailClients
from logstream.settings import ApiSettings, LettersSettings
from logstream.storage.store import Store
from logstream.stream import Stream


@dataclass(slots=True)
class Services:
    """One process's dependencies, and the tails of its streams.

    idempotency_seconds: how long the processor remembers an Idempotency-Key, where it drops repeats.
    """

    settings: ApiSettings
    bus: Bus
    store: Store
    gate: Gate
    clock: Clock
    idempotency_seconds: float = 3600.0
    letters_settings: LettersSettings = field(default_factory=LettersSettings)
    limits: QueryLimits = field(init=False)
    reads: Reads = field(init=False)
    reader: LogReader = field(init=False)
    times: PartTimes = field(init=False)
    learning: ThreadPoolExecutor = field(init=False)
    tail_clients: TailClients = field(init=False)
    letters: LetterBoxes = field(init=False)
    _tails: dict[Stream, Tail] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        self.limits = query_limits(settings)
        turns = Turns(
            running=settings.max_reads,
            running_per_key=settings.max_reads_per_key,
            waiting=settings.max_waiting_reads,
            waiting_per_key=settings.max_waiting_reads_per_key,
        )
        seconds = settings.max_query_seconds or self.store.query_seconds
        self.reads = Reads(self.store, turns, self.clock, seconds=seconds)
        self.reader = LogReader(self.store, self.limits)
        self.times = PartTimes(self.store, self.clock)
        self.learning = ThreadPoolExecutor(1, "patterns")
        self.tail_clients = TailClients(self.settings.tail_max_clients)
        self.letters = LetterBoxes(self.bus, self.clock, self.letters_settings, settings.limits)

    def tail(self, stream: Stream) -> Tail:
        """The tail of `stream`; there is one for each."""
        found = self._tails.get(stream)
        if found is None:
            found = self._tails[stream] = Tail(
                self.bus, self.reader, stream, self.tail_clients, queue_records=self.settings.tail_queue_records
            )
        return found

    async def close(self) -> None:
        """End all tails; their clients reconnect with their cursors."""
        for tail in self._tails.values():
            await tail.close()
        await self.times.close()


def query_limits(settings: ApiSettings) -> QueryLimits:
    """The limits of one read."""
    days = settings.max_query_days
    return QueryLimits(
        span_ns=None if days is None else int(days * 86_400 * NS_PER_SECOND),
        seconds=settings.max_query_seconds,
        rows_read=settings.max_rows_read,
        bytes_read=settings.max_bytes_read,
        result_bytes=settings.max_result_bytes,
    )


def services_of(connection: HTTPConnection) -> Services:
    """The application's services."""
    services: Services = connection.app.state.services
    return services
