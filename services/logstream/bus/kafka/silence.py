"""Which partitions have records that do not come, though the brokers answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logstream.bus.kafka.cursor import Place

_LOOKS = 3
"""One look after a long pause, of the machine or of the event loop, proves nothing."""
_MOST = 32
"""Times the patience: a record so large that it takes longer than the patience must come in the end."""


@dataclass(slots=True)
class _Quiet:
    """since: when the offset to come was first the same; limit: how long it may be, seconds."""

    next: int
    since: float
    limit: float
    looks: int = 1


class Silence:
    """Told at every look where each partition stands and where it ends."""

    def __init__(self, patience: float) -> None:
        """patience: seconds without anything, while more is there, that are taken for silence."""
        self._patience = patience
        self._quiet: dict[Place, _Quiet] = {}

    def look(self, now: float, nexts: Mapping[Place, int], ends: Mapping[Place, int]) -> Sequence[Place]:
        """The silent ones. nexts: the offset to come; ends: of partitions about which the brokers answered.

        One that is told to be silent gets twice as long the next time.
        """
        quiet: dict[Place, _Quiet] = {}
        silent: list[Place] = []
        for place, offset in nexts.items():
            if ends.get(place, 0) <= offset:
                continue
            known = self._quiet.get(place)
            if known is None or known.next != offset:
                quiet[place] = _Quiet(offset, now, self._patience)
                continue
            quiet[place] = known
            known.looks += 1
            if known.looks >= _LOOKS and now - known.since >= known.limit:
                silent.append(place)
                known.since, known.looks = now, 1
                known.limit = min(2 * known.limit, _MOST * self._patience)
        self._quiet = quiet
        return silent
