"""The lines of a plan in the order of their times, and the same in batches. No clock, no I/O."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from logstream.demo import infrastructure, noise, visits
from logstream.demo.buying import check_out
from logstream.demo.fleet import Fleet
from logstream.demo.jobs import run_jobs
from logstream.demo.plan import MINUTE, Incident, Plan, incident
from logstream.demo.rollout import roll_out
from logstream.demo.season import volume
from logstream.demo.shop import REGIONS, Region
from logstream.demo.sink import Line, Minute, Request

LINES_PER_REQUEST = 3.6
"""On average, with what else is written because of it."""
_ASSETS, _BUYERS = 0.22, 0.075
"""Of all requests."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one request to the collector. number: from 0. until: the last one's time, in ns."""

    number: int
    until: int
    records: list[bytes]


def backfill(plan: Plan) -> Iterator[Line]:
    """All lines from the plan's start to its end."""
    for line in _lines(plan, plan.start_ns):
        if line[0] >= plan.end_ns:
            return
        yield line


def live(plan: Plan) -> Iterator[Line]:
    """The lines behind the plan's end, for ever."""
    # Requests that began before the end write lines behind it.
    for line in _lines(plan, plan.end_ns // MINUTE * MINUTE):
        if line[0] >= plan.end_ns:
            yield line


def batches(lines: Iterator[Line], size: int = 5_000) -> Iterator[Batch]:
    """`lines` in batches of `size`; the last one is smaller."""
    number, held, until = 0, [], 0
    for until, record in lines:
        held.append(record)
        if len(held) == size:
            yield Batch(number, until, held)
            number, held = number + 1, []
    if held:
        yield Batch(number, until, held)


def _lines(plan: Plan, start: int) -> Iterator[Line]:
    """Lines from the minute `start` on, for ever. Held in memory: one minute's, and those of requests under way."""
    fleet, trouble = Fleet(plan), incident(plan)
    # What is under way at the beginning.
    held = [line for line in _minute(plan, fleet, trouble, start - MINUTE) if line[0] >= start]
    while True:
        held += _minute(plan, fleet, trouble, start)
        held.sort()
        start += MINUTE
        early = 0
        while early < len(held) and held[early][0] < start:
            early += 1
        yield from held[:early]
        del held[:early]


def _minute(plan: Plan, fleet: Fleet, trouble: Incident | None, start: int) -> list[Line]:
    """The lines of everything that begins in a minute. It depends on the plan and the minute alone."""
    rng = Random(f"{plan.seed} {start}")
    before = dict(fleet.pods(start - MINUTE))
    minute = Minute(start, rng, fleet.pods(start))
    for deploy in fleet.between(start, start + MINUTE):
        roll_out(minute, deploy, before[deploy.service, deploy.region])
    run_jobs(minute, trouble)
    for region in REGIONS:
        # Live is as busy as was asked for, whatever the time of day.
        back = start < plan.end_ns // MINUTE * MINUTE
        a_minute = plan.lines_per_day / 1440 * volume(start, region) if back else plan.live_rate * 60
        requests = _poisson(rng, a_minute * region.share / LINES_PER_REQUEST)
        for _ in range(requests):
            _request(minute, region, trouble)
        for _ in range(_poisson(rng, requests * noise.EVENTS)):
            noise.misfortune(minute, region)
    return minute.lines


def _request(minute: Minute, region: Region, trouble: Incident | None) -> None:
    rng = minute.rng
    request = Request(minute, region, minute.moment())
    chance = rng.random()
    if chance < _ASSETS:
        infrastructure.assets(request)
    elif chance < _ASSETS + _BUYERS:
        if trouble is None or trouble.region != region.name:
            check_out(request, 0.0)
            return
        # Who wants to buy tries again, in vain as long as the pods of this minute are there.
        while not check_out(request, trouble.severity(request.at)) and rng.random() < 0.8:
            request = Request(minute, region, request.at + int(rng.uniform(12e9, 40e9)), request.user)
            if request.at >= trouble.end:
                return
    else:
        visits.pick(rng)(request)
        noise.deprecated(request, trouble)


def _poisson(rng: Random, mean: float) -> int:
    """How many events there are where `mean` are expected."""
    if mean > 30:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, product, limit = 0, rng.random(), math.exp(-mean)
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count
