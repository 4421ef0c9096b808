"""What became of every line that was sent. Pure, so that it is itself tested: it must notice a loss and a double.

A line is known by its client and its number; text and whether ClickHouse refuses it follow from these and the seed,
so nothing but one byte a line has to be remembered.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SENT, ACKNOWLEDGED = 1, 2
"""States of a line. SENT: nobody answered 202, so it may be there or not."""
_POISON_EACH = 3_000
_EXAMPLES = 10


def text_of(seed: int, client: int, number: int) -> str:
    """The message of a line; about one in 3,000 has the word that the table's constraint refuses."""
    mark = zlib.crc32(f"{seed}/{client}/{number}".encode())
    return f"{'poison' if mark % _POISON_EACH == 0 else 'line'} {number} of client {client} {mark:08x}"


def is_poison(seed: int, client: int, number: int) -> bool:
    return text_of(seed, client, number).startswith("poison")


@dataclass(slots=True)
class Findings:
    """Lines by what is wrong with them.

    lost: acknowledged, and neither stored nor a dead letter. doubled: there more than once, each time beyond the first.
    foreign: there without having been sent. damaged: stored with another text. misplaced: refused lines that are
    stored, sound ones that are dead letters.
    """

    stored: int = 0
    dead_lettered: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    unanswered_there: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    damaged: int = 0
    misplaced: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.damaged or self.misplaced)

    def tell(self, what: str, client: int, number: int) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{what}: line {number} of client {client}")


def audit(
    seed: int,
    sent: Mapping[int, Sequence[int]],
    stored: Iterable[tuple[int, int, int]],
    letters: Iterable[tuple[int, int]],
) -> Findings:
    """Hold what is there against what was sent.

    sent: by client, the state of each line by its number. stored: client, number and CRC-32 of the message of every
    row. letters: client and number of every dead letter.
    """
    found = Findings()
    times = {client: bytearray(len(states)) for client, states in sent.items()}

    def count(client: int, number: int) -> bool:
        known = times.get(client)
        if known is None or not 0 <= number < len(known):
            found.foreign += 1
            found.tell("foreign", client, number)
            return False
        known[number] = min(255, known[number] + 1)
        if known[number] > 1:
            found.doubled += 1
            found.tell("doubled", client, number)
        return True

    for client, number, checksum in stored:
        found.stored += 1
        if not count(client, number):
            continue
        text = text_of(seed, client, number)
        if zlib.crc32(text.encode()) != checksum:
            found.damaged += 1
            found.tell("damaged", client, number)
        if text.startswith("poison"):
            found.misplaced += 1
            found.tell("stored in spite of the constraint", client, number)
    for client, number in letters:
        found.dead_lettered += 1
        if count(client, number) and not is_poison(seed, client, number):
            found.misplaced += 1
            found.tell("a dead letter without a reason", client, number)
    for client, states in sent.items():
        for number, (state, there) in enumerate(zip(states, times[client], strict=True)):
            if state == ACKNOWLEDGED:
                found.acknowledged += 1
                if not there:
                    found.lost += 1
                    found.tell("lost", client, number)
            else:
                found.unanswered += 1
                found.unanswered_there += bool(there)
    return found


def ledger_faults(total: Mapping[str, int], found: Findings) -> list[str]:
    """What the ledger's total says, once nothing is in flight any more, that was not counted so."""
    faults = []
    ends = total["stored"] + total["deduplicated"] + total["dead_lettered"] + total["in_flight"]
    if total["accepted"] != ends:
        faults.append(f"accepted is {total['accepted']}, and the other terms are {ends}")
    for term, counted in (("stored", found.stored), ("dead_lettered", found.dead_lettered), ("in_flight", 0)):
        if total[term] != counted:
            faults.append(f"{term} is {total[term]}, and {counted} were counted")
    return faults
