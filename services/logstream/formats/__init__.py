"""Formats of log files: found out from sample lines, then lines to events. No I/O."""

from logstream.formats.detect import PLAIN, Format, detect, named, names
from logstream.formats.join import Joiner, events
from logstream.formats.model import Parsed, Reading

__all__ = ["PLAIN", "Format", "Joiner", "Parsed", "Reading", "detect", "events", "named", "names"]
