"""What became of dead letters, by API key: dead-lettered = waiting + replaying + replayed + discarded + expired."""

from collections.abc import Mapping
from dataclasses import dataclass

from logstream.letters.box import LetterBox
from logstream.letters.index import State


@dataclass(frozen=True, slots=True)
class LetterTerms:
    """Rows of one key. `expired` is not here: what is gone cannot be counted, so it is the rest of `dead_lettered`,
    except while nothing is gone (`LetterLedger.complete`)."""

    waiting: int = 0
    replaying: int = 0
    replayed: int = 0
    discarded: int = 0
    expired: int = 0
    """Only those still there that waited past their retention."""

    @property
    def settled(self) -> int:
        """All but the expired."""
        return self.waiting + self.replaying + self.replayed + self.discarded


@dataclass(frozen=True, slots=True)
class LetterLedger:
    """complete: the topic and memory still have every letter there ever was."""

    keys: Mapping[str, LetterTerms]
    complete: bool

    def of(self, key_id: str) -> LetterTerms:
        return self.keys.get(key_id, LetterTerms())


async def letter_ledger(
    box: LetterBox, *, retained_from: int, start_minute: int | None = None, end_minute: int | None = None
) -> LetterLedger:
    """Counted now; of rows received in [start_minute, end_minute) since the epoch.

    retained_from: letters that died earlier (s) and wait have expired. Over all time, replayed and discarded count
    letters that are gone, too. Raises Unavailable.
    """
    await box.fresh()
    sums: dict[str, dict[str, int]] = {}

    def add(term: str, counts: Mapping[str, int]) -> None:
        for key_id, rows in counts.items():
            terms = sums.setdefault(key_id, {})
            terms[term] = terms.get(term, 0) + rows

    whole = start_minute is None and end_minute is None
    for part in box.parts:
        here = part.count(died_from=retained_from, start_minute=start_minute, end_minute=end_minute)
        every = part.count(start_minute=start_minute, end_minute=end_minute)[State.WAITING]
        add("waiting", here[State.WAITING])
        add("replaying", here[State.REPLAYING])
        add("replayed", part.replayed if whole else here[State.REPLAYED])
        add("discarded", part.discarded if whole else here[State.DISCARDED])
        add("expired", {key_id: rows - here[State.WAITING].get(key_id, 0) for key_id, rows in every.items()})
    return LetterLedger(
        {key_id: LetterTerms(**terms) for key_id, terms in sums.items()}, all(part.complete for part in box.parts)
    )
