"""Proof that the books balance: counts records, rows and dead letters independently of every counter.

`expect` says what a record of the topic must have become (pure), `audit` reads and compares.
"""

from logstream.audit.audit import Auditor, Report
from logstream.audit.expect import Problem

__all__ = ["Auditor", "Problem", "Report"]
