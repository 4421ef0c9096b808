"""What runs by the clock: cron jobs, and the metrics that services log every few minutes."""

from collections.abc import Callable

from logstream.demo import infrastructure
from logstream.demo.buying import pool_gauge
from logstream.demo.plan import MINUTE, Incident
from logstream.demo.shop import CARRIERS, REGIONS, Region
from logstream.demo.sink import Minute

Job = Callable[[Minute, Region, int], None]
"""Writes its lines from a moment (ns) on."""


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
        for every, offset, job in _JOBS:
            if number % every == (offset + 7 * shift) % every:
                job(minute, region, minute.start + minute.rng.randrange(3 * 10**9))


def _job(
    minute: Minute, region: Region, at: int, service: str, name: str, *, seconds: float, result: str
) -> None:  # fmt: skip
    took = seconds * minute.rng.lognormvariate(0, 0.3)
    minute.write(at, service, region, "info", f"Job {name} started", job=name)
    minute.write(at + int(took * 1e9), service, region, "info", f"Job {name} finished in {took:.1f} s: {result}",
                 job=name, duration=f"{took:.1f}s")  # fmt: skip


def _stock(minute: Minute, region: Region, at: int) -> None:
    _job(
        minute,
        region,
        at,
        "inventory",
        "stock-sync",
        seconds=11,
        result=f"{minute.rng.randint(5, 90)} articles changed",
    )


def _tracking(minute: Minute, region: Region, at: int) -> None:
    rng = minute.rng
    _job(
        minute,
        region,
        at,
        "shipping",
        "tracking",
        seconds=18,
        result=f"{rng.randint(20, 400)} parcels of {rng.choice(CARRIERS)}",
    )


def _index(minute: Minute, region: Region, at: int) -> None:
    rng = minute.rng
    minute.write(at + 10**9, "search", region, "debug", f"Segment {rng.randint(1, 900)} merged, "
                 f"{rng.randint(1, 40)} MiB")  # fmt: skip
    _job(minute, region, at, "search", "reindex", seconds=95, result=f"{rng.randint(780, 800)} products indexed")


def _sessions(minute: Minute, region: Region, at: int) -> None:
    _job(
        minute,
        region,
        at,
        "identity",
        "expire-sessions",
        seconds=2,
        result=f"{minute.rng.randint(3, 300)} sessions removed",
    )


def _carts(minute: Minute, region: Region, at: int) -> None:
    _job(
        minute, region, at, "cart", "abandoned-carts", seconds=5, result=f"{minute.rng.randint(2, 60)} reminders queued"
    )


def _settle(minute: Minute, region: Region, at: int) -> None:
    rng = minute.rng
    _job(minute, region, at, "payment", "settlement", seconds=140, result=f"{rng.randint(200, 900)} charges, "
         f"{rng.uniform(9e3, 6e4):.2f} EUR")  # fmt: skip


def _newsletter(minute: Minute, region: Region, at: int) -> None:
    _job(
        minute,
        region,
        at,
        "notification",
        "newsletter",
        seconds=300,
        result=f"{minute.rng.randint(900, 2_000)} e-mails sent",
    )


def _train(minute: Minute, region: Region, at: int) -> None:
    rng = minute.rng
    minute.write(at + 2 * 10**9, "recommendation", region, "info", f"Training on {rng.randint(40, 90)}000 visits")
    _job(minute, region, at, "recommendation", "train", seconds=700, result=f"loss {rng.uniform(0.31, 0.36):.4f}")


def _certificate(minute: Minute, region: Region, at: int) -> None:
    minute.write(at, "nginx", region, "warn", "Certificate of shop.example ends in "
                 f"{21 + (minute.start // (1440 * MINUTE)) * 6 % 60} days, renewal is scheduled")  # fmt: skip


_DAY = 1440
_JOBS: tuple[tuple[int, int, Job], ...] = (
    (30, 2, _stock), (60, 20, _tracking), (360, 185, _index), (60, 55, _sessions), (120, 75, _carts),
    (_DAY, 130, _settle), (_DAY, 545, _newsletter), (_DAY, 200, _train), (_DAY, 360, _certificate),
)  # fmt: skip
"""(every so many minutes, from this minute on, job)"""
