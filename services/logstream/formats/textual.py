"""Text lines by a compiled expression: a timestamp and a layout around it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from logstream.clock import NS_PER_SECOND
from logstream.formats.layouts import EXTRA_LEVELS, Layout
from logstream.formats.model import Parsed, Reading
from logstream.formats.times import GRAMMARS, TimeGrammar, TimeReader
from logstream.record import LEVEL_ALIASES, Level

_FLAGS: Final = re.ASCII | re.DOTALL
_LEVELS: dict[str, int] = {
    spelled: int(level)
    for name, level in {**LEVEL_ALIASES, **EXTRA_LEVELS}.items()
    for spelled in (name, name.upper(), name.capitalize())
}
_APART = frozenset(
    (
        "t", "f", "z", "epoch", "level", "level2", "level3", "component", "message",
        "priority", "structured", "request", "rest", "prefix", "between",
    )
)  # fmt: skip
_DASHED = frozenset(("host", "pid", "msgid", "ident", "user", "bytes", "referer", "user_agent"))
"""Written as - when there is none."""
_PARAMETER = re.compile(r'([^\s="\]]{1,128}+)="((?:[^"\\]|\\.){0,8000}+)"', _FLAGS)
_SYSLOG_LEVELS = (6, 6, 6, 5, 4, 3, 3, 2)
MAX_METADATA = 64
"""Keys that one line may add."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the timestamp stands: after `words` words and `opener`; `epoch`: the word (from 0) that repeats it in
    seconds since 1970, which then gives the second without doubt about the zone; None when there is none. The words are
    the groups `prefix` and, behind the epoch, `between`."""

    grammar: TimeGrammar
    words: int = 0
    opener: str = ""
    epoch: int | None = None

    def expression(self) -> str:
        """From the beginning of the line to what follows the timestamp."""
        if self.epoch is None:
            before = _words("prefix", self.words)
        else:
            between = _words("between", self.words - self.epoch - 1)
            before = rf"{_words('prefix', self.epoch)}(?P<epoch>\d{{10}})\s{{1,8}}+{between}"
        lead = r"(?P<level>[IWEF])" if self.grammar.name == "klog" else ""
        return before + re.escape(self.opener) + lead + self.grammar.fragment() + _closing(self.opener)


def _words(name: str, count: int) -> str:
    return rf"(?P<{name}>(?:\S{{1,300}}+\s{{1,8}}+){{{count}}})" if count else ""


def _closing(opener: str) -> str:
    """What separates the timestamp from the next field, a pipe excepted: it belongs to the layouts with pipes."""
    close = {"[": r"\]?", "(": r"\)?", '"': '"?', "<": ">?"}.get(opener, r"\]?")
    return close + r"[,:]?(?=\s|\||\[|$)\s{0,30}+(?:[-|]\s{1,8}+)?"


class TextFormat:
    """Lines of one layout. Never raises on any text; a line that does not fit gives None."""

    def __init__(self, layout: Layout, position: Position | None, reading: Reading, order: str = "mdy") -> None:
        """`position`: None for a whole layout without a timestamp."""
        self.layout = layout
        self.position = position
        self._times = TimeReader(position.grammar, reading, order) if position is not None else None
        if position is None:
            pattern = layout.pattern
        elif layout.whole:
            pattern = layout.pattern.replace("%T%", position.grammar.fragment())
        else:
            pattern = position.expression() + layout.pattern
        self._match = re.compile(pattern, _FLAGS).match
        groups = re.compile(pattern, _FLAGS).groupindex
        self.groups = frozenset(groups)
        self._at = {name: index - 1 for name, index in groups.items()}
        self._metadata = [(n, i - 1, n in _DASHED) for n, i in groups.items() if n not in _APART]
        self._levels = [groups[n] - 1 for n in ("level", "level2", "level3") if n in groups]
        self._before = bool({"prefix", "between"} & self.groups)
        self._rare = bool({"priority", "structured", "request", "epoch"} & self.groups)

    def captured(self, line: str, group: str) -> bool:
        """Whether the line fits, with something in `group`."""
        found = self._match(line)
        return found is not None and group in self._at and bool(found[group])

    def matches(self, line: str) -> bool:
        return self._match(line) is not None

    def parse(self, line: str) -> Parsed | None:
        found = self._match(line)
        if found is None:
            return None
        values: tuple[str | None, ...] = found.groups()
        at = self._at
        timestamp = text = None
        if self._times is not None and (text := values[at["t"]]) is not None:
            timestamp = self._times.read(text, values[at["f"]], values[at["z"]])
        level: int | None = None
        for index in self._levels:
            if (name := values[index]) is not None:
                level = _LEVELS.get(name) or _LEVELS.get(name.lower())
                break
        metadata: dict[str, str] = {}
        service = ""
        if "component" in at and (component := values[at["component"]]):
            metadata["component"] = component
            if self.layout.service:
                service = program(component)
        for name, index, dashed in self._metadata:
            if (value := values[index]) and not (dashed and value.strip() == "-"):
                metadata[name] = value
        if self._before:
            self._keep_before(found, metadata)
        message = values[at["message"]] or ""
        if self._rare:
            timestamp, level = self._finish(values, metadata, timestamp, level)
            if service == "-":
                service = ""
                del metadata["component"]
        if timestamp is None and text is not None:
            # A date that cannot be: what it was is for people to tell.
            message = line
        return Parsed(timestamp, level, service, message, metadata)

    def _keep_before(self, found: re.Match[str], metadata: dict[str, str]) -> None:
        """The words before the timestamp. Those between two times only where they neither are the date again nor stand
        behind the second time once more.
        """
        prefix = found["prefix"].rstrip() if "prefix" in self._at else ""
        if prefix == "-":
            prefix = ""
        if "between" in self._at:
            behind = found.string[found.end("t") :]
            words = (w for w in found["between"].split() if w not in behind and not _DATE.fullmatch(w))
            prefix = " ".join((prefix, *words)).strip()
        if prefix:
            metadata["prefix"] = prefix

    def _finish(
        self, values: tuple[str | None, ...], metadata: dict[str, str], timestamp: int | None, level: int | None
    ) -> tuple[int | None, int | None]:
        """What only a few layouts have: priorities, structured data, requests, repeated timestamps."""
        at = self._at
        if "epoch" in at and (seconds := values[at["epoch"]]):
            # Beyond doubt about the zone; the other one may tell the fraction.
            fraction = values[at["f"]] or "0"
            timestamp = int(seconds) * NS_PER_SECOND + int(fraction) * 10 ** (9 - len(fraction))
        if "priority" in at and (priority := values[at["priority"]]):
            facility, severity = divmod(int(priority), 8)
            level = _SYSLOG_LEVELS[severity]
            metadata["facility"] = str(facility)
        if "structured" in at and (structured := values[at["structured"]]) and structured != "-":
            for name, value in _PARAMETER.findall(structured):
                if len(metadata) >= MAX_METADATA:
                    break
                metadata.setdefault(name, _UNESCAPE.sub(r"\1", value))
        if "request" in at and (request := values[at["request"]]) is not None:
            level = _request(request, metadata)
            if rest := (values[at["rest"]] or "").strip():
                metadata["rest"] = rest
        return timestamp, level


_DATE = re.compile(r"\d{2,4}[-./]\d\d[-./]\d{2,4}", re.ASCII)


_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _request(request: str, metadata: dict[str, str]) -> int:
    """The parts of a request line; the level by the status, which the metadata has already."""
    parts = request.split(" ", 2)
    if len(parts) == 3:
        metadata["method"], metadata["path"], metadata["protocol"] = parts
    if "user" in metadata:
        metadata["user"] = metadata["user"].strip()
    status = metadata["status"]
    return int(Level.ERROR if status[0] == "5" else Level.WARN if status[0] == "4" else Level.INFO)


def program(component: str) -> str:
    """The program that a syslog tag names: sshd(pam_unix) is sshd, postfix/smtpd is postfix, syslogd 1.4.1 syslogd."""
    name = _PROGRAM.match(component)
    return name[0] if name else component


_PROGRAM = re.compile(r"[^\s(/\[]{1,200}+(?: [A-Za-z][^\s(/\[]{0,200}+){0,3}+")


def find_positions(line: str) -> Sequence[Position]:
    """The places near the beginning of a line where a timestamp stands, for each grammar the first."""
    head = line[:_LOOK_AT]
    found = []
    for grammar, regex in _SEARCHES:
        for hit in regex.finditer(head):
            before = head[: hit.start()]
            opener = before[-1] if before and before[-1] in '[(<"' else ""
            words = before[: len(before) - len(opener)]
            if words and not words[-1].isspace():
                continue
            split = words.split()
            if len(split) > _MAX_WORDS or (words[:1].isspace()):
                break
            if grammar.name == "clock" and split and _LIKE_DATE.fullmatch(split[-1]):
                # A date that no grammar knows, or that cannot be: the clock alone would make it today's.
                continue
            epoch = next((i for i, w in enumerate(split) if _EPOCH_WORD.fullmatch(w)), None)
            found.append(Position(grammar, len(split), opener, epoch if grammar.name != "epoch" else None))
            break
    return found


_LOOK_AT = 240
_MAX_WORDS = 6
_LIKE_DATE = re.compile(r"[\[(<\"]?\d{1,4}(?:[-/]\d{1,4}|[-./]\d{1,2}[-./]\d{1,4}),?", re.ASCII)
_EPOCH_WORD = re.compile(r"1\d{9}")
_SEARCHES = [
    (g, re.compile(rf"(?<![\w.:/-])(?:{'[IWEF]' if g.name == 'klog' else ''}){g.fragment()}(?![\w/])", _FLAGS))
    for g in GRAMMARS
]
