"""How busy the shop is: day and night, the peaks at lunch and in the evening, the weekend."""

from logstream.clock import NS_PER_SECOND
from logstream.demo.shop import Region

HOUR = 3_600 * NS_PER_SECOND
DAY = 24 * HOUR
_BY_HOUR = (0.40, 0.22, 0.14, 0.11, 0.11, 0.16, 0.32, 0.60, 0.85, 1.00, 1.10, 1.30,
            1.65, 1.50, 1.15, 1.05, 1.10, 1.25, 1.50, 1.85, 2.05, 1.90, 1.35, 0.75)  # fmt: skip
_BY_WEEKDAY = (0.98, 0.94, 0.93, 0.95, 0.97, 1.10, 1.13)
"""From Monday on; the mean is 1."""
_MEAN = sum(_BY_HOUR) / 24
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday."""


def volume(ns: int, region: Region) -> float:
    """How busy a region is at a moment; 1 is the mean of a week."""
    local = ns + region.utc_offset * HOUR
    day, within = divmod(local, DAY)
    hour, rest = divmod(within, HOUR)
    part = rest / HOUR
    level = _BY_HOUR[hour] * (1 - part) + _BY_HOUR[(hour + 1) % 24] * part
    return level / _MEAN * _BY_WEEKDAY[(day + _EPOCH_WEEKDAY) % 7]
