"""What is said about a resource, from what was observed: pure. What is remembered is in the status itself."""

from logstream_operator.status.apikey import ObservedKey, key_findings
from logstream_operator.status.condition import Finding, stamped
from logstream_operator.status.events import Event, events
from logstream_operator.status.logstream import Observed, Step, Workload, findings, unmet

__all__ = [
    "Event",
    "Finding",
    "Observed",
    "ObservedKey",
    "Step",
    "Workload",
    "events",
    "findings",
    "key_findings",
    "stamped",
    "unmet",
]
