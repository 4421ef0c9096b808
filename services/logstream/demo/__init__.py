"""The logs of a small shop, made up: a week of traffic, deploys, and an incident whose cause can be found.

Pure: the same plan gives the same lines. For people: docs/demo.md; the command is `logstream demo`.
"""

from logstream.demo.plan import LINES_PER_DAY, LIVE_RATE, Incident, Plan, incident
from logstream.demo.sink import Line
from logstream.demo.traffic import Batch, backfill, batches, live

__all__ = ["LINES_PER_DAY", "LIVE_RATE", "Batch", "Incident", "Line", "Plan", "backfill", "batches", "incident", "live"]
