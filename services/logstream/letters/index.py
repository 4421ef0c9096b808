"""What is known of the letters of one partition: some 50 bytes each, and no text. Pure: records in, states out.

The state of a letter is the fold of the dispositions behind it in the topic's order, so every process comes to the
same one.
"""

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from logstream.bus.protocol import Message, minute_of
from logstream.clock import NS_PER_SECOND
from logstream.letters.format import Brief, Disposition, Share, look

_LARGEST = 2**32 - 1


class State(IntEnum):
    """What became of a letter."""

    WAITING = 0
    REPLAYING = 1
    REPLAYED = 2
    DISCARDED = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(slots=True)
class _Identities:
    """Places on the main topic that have a letter, in order. Letters come in order but for repeats."""

    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, offset: int, row: int) -> bool:
        """False when it is there already."""
        if not self.offsets or (self.offsets[-1], self.rows[-1]) < (offset, row):
            self.offsets.append(offset)
            self.rows.append(row)
            return True
        at = bisect_left(self.offsets, offset)
        while at < len(self.offsets) and self.offsets[at] == offset and self.rows[at] < row:
            at += 1
        if at < len(self.offsets) and (self.offsets[at], self.rows[at]) == (offset, row):
            return False
        self.offsets.insert(at, offset)
        self.rows.insert(at, row)
        return True


@dataclass(slots=True)
class _Replays:
    """Which letter a record of the main topic replays, in the order of the main topic."""

    at: "array[int]" = field(default_factory=lambda: array("Q"))
    letters: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, offset: int, letter: int) -> None:
        place = len(self.at) if not self.at or self.at[-1] < offset else bisect_left(self.at, offset)
        self.at.insert(place, offset)
        self.letters.insert(place, letter)

    def find(self, offset: int) -> int | None:
        place = bisect_left(self.at, offset)
        return self.letters[place] if place < len(self.at) and self.at[place] == offset else None


class PartitionIndex:
    """The letters of one partition, in order. `next` is the offset to read from."""

    def __init__(self, *, max_letters: int) -> None:
        """max_letters: the newest are kept, the others treated as gone. Bounds memory."""
        self._max_letters = max_letters
        self.next = 0
        self.last = -1
        """The newest record read."""
        self.tallied = -1
        """The newest tally that counts, by offset."""
        self.since_tally = 0
        """Records behind it."""
        self.tallied_at = 0
        """When, in ns."""
        self.complete = True
        """Whether no letter is gone."""
        self.offsets = array("Q")
        self._states = bytearray()
        self._latest = array("Q")
        self._died = array("I")
        self._received = array("I")
        self._shares = array("I")
        self._sizes = array("I")
        self._numbers: dict[Share, int] = {}
        self.shares: list[Share] = []
        self._identities: dict[tuple[int, int], _Identities] = {}
        self._replays: dict[int, _Replays] = {}
        self.replayed: dict[str, int] = {}
        """Rows by API key, of letters that are gone too."""
        self.discarded: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    # Taking in

    def add(self, message: Message) -> None:
        """The next record of the topic."""
        seen = look(message.value)
        if seen.letter is not None:
            self._add_letter(message.offset, seen.letter, seen.share, len(message.value))
        elif seen.disposition is not None:
            self._dispose(message.offset, seen.disposition)
        self.last = message.offset
        self.next = message.offset + 1
        self.since_tally += 1

    def _add_letter(self, offset: int, letter: Brief, share: Share, size: int) -> None:
        known = self._identities.setdefault((letter.incarnation, letter.partition), _Identities())
        if not known.add(letter.offset, -1 if letter.row is None else letter.row):
            return
        number = self._numbers.get(share)
        if number is None:
            number = self._numbers[share] = len(self.shares)
            self.shares.append(share)
        self.offsets.append(offset)
        self._states.append(State.WAITING)
        self._latest.append(offset)
        self._died.append(min(max(letter.died_at // NS_PER_SECOND, 0), _LARGEST))
        self._received.append(min(max(minute_of(letter.received_at), 0), _LARGEST))
        self._shares.append(number)
        self._sizes.append(min(size, _LARGEST))
        if len(self.offsets) > self._max_letters + self._max_letters // 8:
            self._drop(len(self.offsets) - self._max_letters)

    def _dispose(self, offset: int, disposition: Disposition) -> None:
        if disposition.action == "tally":
            self._take_tally(offset, disposition)
            return
        for letter, other in disposition.letters:
            at = self.find(letter)
            if at is None:
                continue
            state = self._states[at]
            if disposition.action == "replayed":
                if state != State.REPLAYING:
                    continue
                self._set(at, State.REPLAYED, offset)
                self._count(self.replayed, at)
                self._replays.setdefault(disposition.incarnation, _Replays()).add(other, letter)
            elif other == self._latest[at] and state in (State.WAITING, State.REPLAYING):
                if disposition.action == "replaying":
                    self._set(at, State.REPLAYING, offset)
                elif disposition.action == "discarded":
                    self._set(at, State.DISCARDED, offset)
                    self._count(self.discarded, at)

    def _take_tally(self, offset: int, tally: Disposition) -> None:
        # Where reading began just here, the record before it is not known: then it must be the one before.
        if tally.last not in (self.last, offset - 1):
            return
        self.replayed, self.discarded = dict(tally.replayed), dict(tally.discarded)
        self.tallied, self.tallied_at = offset, tally.at
        self.since_tally = 0

    def _set(self, at: int, state: State, offset: int) -> None:
        self._states[at] = state
        self._latest[at] = offset

    def _count(self, counts: dict[str, int], at: int) -> None:
        for key_id, rows in self.shares[self._shares[at]]:
            counts[key_id] = counts.get(key_id, 0) + rows

    def forget(self, beginning: int) -> None:
        """The topic begins at `beginning` now."""
        self.complete &= beginning == 0
        self._drop(bisect_left(self.offsets, beginning))
        self.next = max(self.next, beginning)

    def _drop(self, count: int) -> None:
        if not count:
            return
        self.complete = False
        del self.offsets[:count], self._states[:count], self._latest[:count]
        del self._died[:count], self._received[:count], self._shares[:count], self._sizes[:count]
        for known in self._identities.values():
            # Repeats follow closely; so many are more than enough to know them.
            excess = len(known.offsets) - max(2 * len(self.offsets), 10_000)
            if excess > 0:
                del known.offsets[:excess], known.rows[:excess]
        first = self.offsets[0] if self.offsets else self.next
        for replays in self._replays.values():
            gone = 0
            while gone < len(replays.at) and replays.letters[gone] < first:
                gone += 1
            del replays.at[:gone], replays.letters[:gone]

    # Asking

    def find(self, offset: int) -> int | None:
        """The number of the letter at `offset`, None when there is none."""
        at = bisect_left(self.offsets, offset)
        return at if at < len(self.offsets) and self.offsets[at] == offset else None

    def state(self, at: int) -> State:
        return State(self._states[at])

    def latest(self, at: int) -> int:
        """Offset of the letter's last disposition that counts; its own when it has none."""
        return self._latest[at]

    def died(self, at: int) -> int:
        """Seconds since the epoch."""
        return self._died[at]

    def size(self, at: int) -> int:
        """Bytes of the letter's record."""
        return self._sizes[at]

    def share(self, at: int) -> Share:
        return self.shares[self._shares[at]]

    def replayed_letter(self, incarnation: int, offset: int) -> int | None:
        """Offset of the letter whose replay is the record at `offset` of the main topic."""
        replays = self._replays.get(incarnation)
        return None if replays is None else replays.find(offset)

    def unfinished(self) -> list[int]:
        """Offsets of letters that are being replayed."""
        found = np.flatnonzero(np.frombuffer(self._states, dtype=np.uint8) == State.REPLAYING)
        return [self.offsets[at] for at in found.tolist()]

    def select(
        self,
        *,
        before: int,
        states: frozenset[State] | None = None,
        key_id: str | None = None,
        died_from: int = 0,
        died_to: int = _LARGEST,
    ) -> "npt.NDArray[np.intp]":
        """Numbers of the letters below the offset `before` that match, the newest first. Times in seconds."""
        count = bisect_left(self.offsets, before)
        # Copies: an array cannot grow while a view of it is held.
        died = np.frombuffer(self._died, dtype=np.uint32)[:count]
        mask = (died >= min(max(died_from, 0), _LARGEST)) & (died <= min(max(died_to, 0), _LARGEST))
        if states is not None:
            mask &= np.isin(np.frombuffer(self._states, dtype=np.uint8)[:count], [int(state) for state in states])
        if key_id is not None:
            numbers = [n for n, share in enumerate(self.shares) if any(name == key_id for name, _ in share)]
            mask &= np.isin(np.frombuffer(self._shares, dtype=np.uint32)[:count], numbers)
        return np.flatnonzero(mask)[::-1]

    def count(
        self, *, died_from: int = 0, start_minute: int | None = None, end_minute: int | None = None
    ) -> dict[State, dict[str, int]]:
        """Rows by state and API key, of letters whose rows were received in [start_minute, end_minute).

        died_from: in seconds; of waiting ones only those that died no earlier.
        """
        received = np.frombuffer(self._received, dtype=np.uint32)
        shares = np.frombuffer(self._shares, dtype=np.uint32)
        states = np.frombuffer(self._states, dtype=np.uint8)
        kept = np.frombuffer(self._died, dtype=np.uint32) >= min(max(died_from, 0), _LARGEST)
        here = np.ones(len(received), dtype=bool)
        if start_minute is not None:
            here &= received >= max(0, start_minute)
        if end_minute is not None:
            here &= received < max(0, end_minute)
        counts: dict[State, dict[str, int]] = {}
        for state in State:
            mask = here & (states == state)
            if state is State.WAITING:
                mask &= kept
            by_key = counts[state] = {}
            for number, letters in enumerate(np.bincount(shares[mask], minlength=0).tolist()):
                for key_id, rows in self.shares[number] if letters else ():
                    by_key[key_id] = by_key.get(key_id, 0) + rows * letters
        return counts
