"""Redaction: what must not be kept is taken out of decoded records before they reach the log.

Pure: rules in, a redactor out; batches in, batches out. The collector applies it to everything it decodes, the dry
run of the API and `logstream redact` to samples.
"""

from logstream.redact.detectors import DETECTORS
from logstream.redact.redactor import Redacted, Redactor, redactor_for
from logstream.redact.rule import RuleError

__all__ = ["DETECTORS", "Redacted", "Redactor", "RuleError", "redactor_for"]
