"""A process that replays all letters of a stream and kills itself at a chosen point.

Usage: `python -m tests.support.letters_child BUS STREAM POINT`. BUS is a folder (the embedded log) or
`kafka://HOST:PORT`. POINT is one of `POINTS`, or "none": then it ends by itself, and prints the outcomes as JSON.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logstream.bus.header import Header, Kind
from logstream.bus.protocol import Bus, Claim, Published
from logstream.bus.sqlite import SqliteBus
from logstream.clock import SystemClock
from logstream.letters.box import LetterBox
from logstream.letters.format import LetterId
from logstream.letters.replay import Operation, Replayer
from logstream.settings import IngestLimits
from logstream.stream import Stream, make_stream
from tests.support.processor import bus_settings

LEASE_SECONDS = 0.3
POINTS = (
    "before replaying", "after replaying", "before row", "after row", "before replayed", "after replayed",
    "before tally", "after tally",
)  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(bus: Any, point: str, nth: int) -> None:
    """Die the `nth` time that `point` is passed."""
    publish = bus.publish
    passed: Counter[str] = Counter()

    async def publishing(
        topic: str, header: Header, payload: bytes, *, claim: Claim | None = None, partition: int | None = None
    ) -> Published:
        what = json.loads(payload)["action"] if header.kind is Kind.DISPOSITION else "row"
        passed[what] += 1
        if point == f"before {what}" and passed[what] == nth:
            die()
        published: Published = await publish(topic, header, payload, claim=claim, partition=partition)
        if point == f"after {what}" and passed[what] >= nth:
            die()
        return published

    bus.publish = publishing


async def replay_all(bus: Bus, stream: Stream) -> Mapping[str, int]:
    """Until no letter waits, or none can be replayed: outcomes, as often as they came."""
    replayer = Replayer(
        LetterBox(bus, stream, SystemClock(), max_letters=100_000), IngestLimits(), lease_seconds=LEASE_SECONDS
    )
    box = replayer._box
    await box.fresh()
    ids = [LetterId(p, offset) for p, part in enumerate(box.parts) for offset in part.offsets]
    outcomes: Counter[str] = Counter()
    for _ in range(200):
        results = await replayer.replay(ids, Operation("child"))
        outcomes.update(result.outcome for result in results)
        ids = [result.id for result in results if result.outcome in ("busy", "failed")]
        if not ids:
            break
        await asyncio.sleep(0.05)
    return outcomes


async def open_bus(place: str) -> Bus:
    if not place.startswith("kafka://"):
        return await SqliteBus.open(bus_settings(Path(place)), SystemClock())
    from tests.support.letters import open_kafka

    return await open_kafka(place.removeprefix("kafka://"), SystemClock())


async def main(place: str, name: str, point: str, nth: str) -> None:
    bus = await open_bus(place)
    arm(bus, point, int(nth))
    print(json.dumps(await replay_all(bus, make_stream(name))), flush=True)
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
