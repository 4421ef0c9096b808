"""What runs by the clock: cron jobs, and the metrics that services log every few minutes."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from logstream.demo import infrastructure
from logstream.demo.buying import pool_gauge
from logstream.demo.plan import MINUTE, Incident
from logstream.demo.shop import REGIONS, Region
from logstream.demo.sink import Minute

_HOUR, _DAY = 60, 1440
_APART = 7
"""Minutes by which a job is later in the second region."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Runs every so many minutes, `offset` minutes after midnight first. seconds: how long, as a median."""

    every: int
    offset: int
    service: str
    name: str
    seconds: float
    result: Callable[[Random], str]


_JOBS = (
    _Job(30, 2, "inventory", "stock-sync", 11, lambda rng: f"{rng.randint(5, 90)} articles changed"),
    _Job(_HOUR, 20, "shipping", "tracking", 18, lambda rng: f"{rng.randint(20, 400)} parcels"),
    _Job(_HOUR, 55, "identity", "expire-sessions", 2, lambda rng: f"{rng.randint(3, 300)} sessions removed"),
    _Job(2 * _HOUR, 75, "cart", "abandoned-carts", 5, lambda rng: f"{rng.randint(2, 60)} reminders queued"),
    _Job(6 * _HOUR, 185, "search", "reindex", 95, lambda rng: f"{rng.randint(780, 800)} products indexed"),
    _Job(_DAY, 130, "payment", "settlement", 140,
         lambda rng: f"{rng.randint(200, 900)} charges, {rng.uniform(9e3, 6e4):.2f} EUR"),
    _Job(_DAY, 200, "recommendation", "train", 700, lambda rng: f"loss {rng.uniform(0.31, 0.36):.4f}"),
    _Job(_DAY, 545, "notification", "newsletter", 300, lambda rng: f"{rng.randint(900, 2_000)} e-mails sent"),
)  # fmt: skip


def run_jobs(minute: Minute, trouble: Incident | None) -> None:
    """Everything that is due in this minute."""
    number = minute.start // MINUTE
    for shift, region in enumerate(REGIONS):
        if number % 5 == shift:
            pool_gauge(minute, region, trouble)
        if number % 15 == 4 * shift:
            infrastructure.checkpoint(minute, region)
        if number % 47 == shift:
            infrastructure.vacuum(minute, region)
        if number % _DAY == 360 + shift:
            _certificate(minute, region)
        for job in _JOBS:
            if number % job.every == (job.offset + _APART * shift) % job.every:
                _run(minute, region, job)


def _run(minute: Minute, region: Region, job: _Job) -> None:
    rng = minute.rng
    at = minute.start + rng.randrange(3 * 10**9)
    took = job.seconds * rng.lognormvariate(0, 0.3)
    minute.write(at, job.service, region, "info", f"Job {job.name} started", job=job.name)
    minute.write(
        at + int(took * 1e9), job.service, region, "info",
        f"Job {job.name} finished in {took:.1f} s: {job.result(rng)}", job=job.name, duration=f"{took:.1f}s",
    )  # fmt: skip


def _certificate(minute: Minute, region: Region) -> None:
    days = 60 - minute.start // (_DAY * MINUTE) % 30
    minute.write(
        minute.moment(), "nginx", region, "warn",
        f"Certificate of shop.example ends in {days} days, its renewal is scheduled",
    )  # fmt: skip
