"""The letters of all streams of one process, and the task that finishes what crashes left unfinished."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from logstream.bus.protocol import Bus
from logstream.clock import NS_PER_SECOND, Clock
from logstream.errors import LogStreamError
from logstream.letters.box import LetterBox
from logstream.letters.replay import Replayer
from logstream.logs import get_logger
from logstream.settings import IngestLimits, LettersSettings
from logstream.stream import Stream

_TALLY_RECORDS = 10_000
_TALLY_NS = 86_400 * NS_PER_SECOND

_log = get_logger("letters")


@dataclass(frozen=True, slots=True)
class Letters:
    """One stream's."""

    box: LetterBox
    replayer: Replayer


class LetterBoxes:
    """Made once a process; each stream's letters are read when first asked for."""

    def __init__(self, bus: Bus, clock: Clock, settings: LettersSettings, limits: IngestLimits) -> None:
        """limits: what a replayed line is held to."""
        self._bus = bus
        self._clock = clock
        self.settings = settings
        self._limits = limits
        self._letters: dict[Stream, Letters] = {}

    def of(self, stream: Stream) -> Letters:
        """The letters of `stream`; always the same."""
        found = self._letters.get(stream)
        if found is None:
            box = LetterBox(self._bus, stream, self._clock, max_letters=self.settings.max_known)
            replayer = Replayer(box, self._limits, lease_seconds=self.settings.lease_seconds)
            found = self._letters[stream] = Letters(box, replayer)
        return found

    def retained_from(self, days: int) -> int:
        """Seconds since the epoch: a waiting letter that died earlier has expired. days: the stream's setting."""
        return self._clock.now_ns() // NS_PER_SECOND - days * 86_400

    async def run(self, streams: Callable[[], Sequence[Stream]], stop: asyncio.Event) -> None:
        """Finish unfinished replays and renew tallies, now and then, until `stop` is set. Raises nothing for a log
        that is away."""
        while not stop.is_set():
            for stream in streams():
                try:
                    await self._tend(self.of(stream))
                except LogStreamError as error:
                    _log.warning("letters_not_tended", stream=stream.name, error=error.message)
                except Exception:
                    # Reading and searching must not end with it.
                    _log.exception("letters_not_tended", stream=stream.name)
            for stream in self._letters.keys() - set(streams()):
                del self._letters[stream]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self.settings.recovery_seconds)

    async def _tend(self, letters: Letters) -> None:
        left = await letters.replayer.recover()
        if left:
            _log.info("replays_unfinished", stream=letters.box.stream.name, letters=left)
        now = self._clock.now_ns()
        due = [
            partition
            for partition, part in enumerate(letters.box.parts)
            if (part.replayed or part.discarded)
            and (part.since_tally >= _TALLY_RECORDS or now - part.tallied_at > _TALLY_NS)
        ]
        if due:
            await letters.box.tally(due)
