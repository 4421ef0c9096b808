"""Layouts of text lines: what stands around the timestamp. Grammars that many programs share, no program's words.

A head is what follows the timestamp, up to and with the message; a whole layout describes the line from its first
character. Groups name what they capture: `level`, `component`, `message`, `service` become those fields, all others
metadata. Every repetition is bounded or possessive, so that a match takes time linear in the line.
"""

from dataclasses import dataclass

from logstream.record import LEVEL_ALIASES, Level

EXTRA_LEVELS = {"note": Level.INFO, "v": Level.TRACE, "a": Level.FATAL, "statement": Level.INFO, "success": Level.INFO}
"""Names of levels beyond those a sender may use: MySQL's, Android's, PostgreSQL's, loguru's."""

_WORDS = sorted(
    {word for word in (*LEVEL_ALIASES, *EXTRA_LEVELS) if word.isalpha() and len(word) >= 3}, key=len, reverse=True
)
_ANY = "|".join(_WORDS)
_BIG = "|".join(word.upper() for word in _WORDS)
_LEVEL = rf"(?P<level>(?i:{_ANY})(?=[\s\]:|),]|$))"
_LOUD = rf"(?P<level>(?:{_BIG})(?=[\s\]:|),]|$))"
"""In capitals: where nothing else tells a level from a word of the message."""
_LEVEL_SLASH = rf"(?P<level>(?i:{_ANY}))(?=/)"
_LETTER = r"(?P<level>[VTDIWEFA](?=\s))"

_COMPONENT = r"(?P<component>[^\s:\[\]|]{1,200}+(?::{1,2}[^\s:\[\]|]{1,200}+){0,20}+)"
"""A logger, class, module or tag: colons inside, none at its end."""
_NAME = r"(?P<component>[A-Za-z_$][\w.$/*<>@-]{0,200}+(?::{1,2}[\w.$<>-]{1,200}+){0,20}+)"
_NESTED = r"(?:[^\[\]]{1,500}+|\[[^\[\]]{0,500}+\]){0,20}+"
_THREAD = rf"\[\s{{0,60}}+(?P<thread>{_NESTED})\]"
_IDS = r"(?:(?P<pid>\d{1,10}+)\s{1,8}+(?:(?P<tid>\d{1,10}+)\s{1,8}+)?)?"
_S = r"\s{1,30}+"
_MESSAGE = r"(?P<message>.*)"
_TAG = (
    # A name of several words (Google Chrome Helper) is sure only where a process id follows.
    r"(?P<component>[^\s:\[\]]{1,100}+(?:(?: [^\s:\[\]]{1,100}+){1,3}+(?=\[)|(?: [^\s:\[\]]{1,100}+)?))"
    r"(?:\[(?P<pid>[\w.-]{1,40}+)\])?"
    r"(?: \((?P<unit>[^()\s]{1,200}+)\))?:(?:\s{1,8}+|$)"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """pattern: the expression of the head, or of the whole line with %T% for the timestamp.

    weight: how specific it is; the share of a sample that matches is multiplied by it. times: names of the only
    timestamp grammars it goes with, () for all. sure: where the weight is less, unless one line in ten matches this
    group. service: the component names a program. whole: the pattern is that of the whole line.
    """

    name: str
    weight: float
    pattern: str
    times: tuple[str, ...] = ()
    sure: str = ""
    service: bool = False
    whole: bool = False


HEADS: tuple[Layout, ...] = (
    # nginx: [error] 12#12: *1 …
    Layout("[level] pid#tid:", 1.50, rf"\[{_LEVEL}\]{_S}(?P<pid>\d{{1,10}}+)#(?P<tid>\d{{1,10}}+):{_S}{_MESSAGE}"),
    # Apache error logs: [error] … · [core:error] [pid 1:tid 2] [client ::1:80] AH00128: …
    Layout(
        "bracketed level",
        1.30,
        rf"\[(?:(?P<component>[\w.-]{{0,60}}+):)?{_LEVEL}\]{_S}"
        rf"(?:\[pid (?P<pid>\d{{1,10}}+)(?::tid (?P<tid>\d{{1,20}}+))?\]{_S})?"
        rf"(?=(?:\[client (?P<client>[^\]\s]{{1,100}}+)\])?){_MESSAGE}",
    ),
    # MySQL: 0 [Note] [MY-010116] [Server] …
    Layout(
        "numbered bracketed level",
        1.40,
        rf"(?P<thread>\d{{1,20}}+){_S}\[{_LEVEL}\]{_S}(?:\[(?P<code>[\w-]{{1,40}}+)\]{_S})?"
        rf"(?:\[(?P<component>[\w-]{{1,60}}+)\]{_S})?{_MESSAGE}",
    ),
    # INFO [main] org.example.Class: …
    Layout("level [thread] component:", 1.50, rf"{_LEVEL}{_S}{_THREAD}{_S}{_COMPONENT}\s{{0,30}}+:(?:\s|$){_MESSAGE}"),
    Layout("level [thread] component -", 1.50, rf"{_LEVEL}{_S}{_THREAD}{_S}{_COMPONENT}{_S}-{_S}{_MESSAGE}"),
    # INFO [main] org.example.Class.method …
    Layout(
        "level [thread] component",
        1.42,
        rf"{_LEVEL}{_S}{_THREAD}{_S}"
        rf"(?P<component>[A-Za-z_$][\w$]{{0,100}}+(?:\.[\w$<>-]{{1,100}}+){{1,20}}+){_S}{_MESSAGE}",
    ),
    # [INFO ][o.e.n.Node  ] [node] …
    Layout(
        "[level][component]",
        1.45,
        rf"\[{_LEVEL}\s{{0,8}}+\]\s{{0,8}}+\[(?P<component>[^\]\s]{{1,200}}+)\s{{0,60}}+\](?:\s{{0,8}}+\["
        rf"(?P<node>[^\]]{{1,200}}+)\])?\s{{0,8}}+{_MESSAGE}",
    ),
    # Celery: INFO/MainProcess] …
    Layout("level/process]", 1.40, rf"{_LEVEL_SLASH}/(?P<thread>[^\]\s]{{1,100}}+)\](?:\s|$){_MESSAGE}"),
    # INFO  [thread:Class@12] - …
    Layout(
        "level [thread:component@line]",
        1.60,
        rf"{_LEVEL}{_S}\[(?P<thread>(?:[^\[\]:]{{1,500}}+|\[[^\[\]]{{0,500}}+\]){{0,20}}+):"
        rf"(?P<component>(?:[^\[\]@]{{1,500}}+|\[[^\[\]]{{0,500}}+\]){{0,20}}+)@(?P<line>\d{{1,8}}+)\]{_S}"
        rf"-(?:\s|$){_MESSAGE}",
    ),
    # 25746 INFO package.module [request context] …
    Layout(
        "pid level component [context]",
        1.55,
        rf"(?P<pid>\d{{1,10}}+){_S}{_LEVEL}{_S}{_COMPONENT}{_S}\[(?P<context>[^\]]{{0,500}}+)\](?:\s|$){_MESSAGE}",
    ),
    # Spring Boot: INFO 1234 --- [app] [main] org.example.Class : …
    Layout(
        "level pid --- [thread] component",
        1.70,
        rf"{_LEVEL}{_S}(?P<pid>\d{{1,10}}+){_S}---{_S}(?:\[(?P<application>[^\[\]]{{0,200}}+)\]{_S}"
        rf"(?=\[))?{_THREAD}{_S}"
        rf"(?:\[[^\[\]]{{0,200}}+\]{_S})?{_COMPONENT}\s{{0,60}}+:(?:\s|$){_MESSAGE}",
    ),
    # [main] INFO  org.example.Class - … or : …
    Layout(
        "[thread] level component",
        1.50,
        rf"{_THREAD}{_S}\[?{_LEVEL}\]?{_S}{_COMPONENT}\s{{0,30}}+[-:](?:\s|$){_MESSAGE}",
    ),
    Layout("[thread] level", 1.30, rf"{_THREAD}{_S}\[?{_LEVEL}\]?{_S}(?:[-:]{_S})?{_MESSAGE}"),
    # 148 INFO package.Class: … · 1702 2395 D Tag: …
    Layout(
        "level component:",
        1.40,
        rf"{_IDS}(?:{_LEVEL}|\[(?P<level2>(?i:{_ANY}))\]){_S}{_COMPONENT}\s{{0,30}}+:(?:\s|$){_MESSAGE}",
    ),
    Layout("level in component:", 1.42, rf"{_LEVEL} in {_COMPONENT}:(?:\s|$){_MESSAGE}"),
    Layout(
        "letter component:",
        1.38,
        rf"{_IDS}{_LETTER}{_S}"
        rf"(?P<component>[^\s:]{{1,200}}+(?: [^\s:]{{1,60}}+){{0,3}}+)?\s{{0,30}}+:(?:\s|$){_MESSAGE}",
    ),
    # Rust's env_logger: INFO  crate::module] …
    Layout("level component]", 1.45, rf"{_LEVEL}{_S}{_COMPONENT}\](?:\s|$){_MESSAGE}"),
    # Info                  CBS    …
    Layout("level  component  ", 1.35, rf"{_IDS}{_LEVEL}{_S}{_NAME}\s{{2,30}}+{_MESSAGE}"),
    # package.module - INFO - … · package.module:12 - …
    Layout(
        "component - level -",
        1.50,
        rf"\[?{_NAME}(?::(?P<line>\d{{1,8}}+))?\]?{_S}[-|]{_S}{_LEVEL}{_S}[-|]{_S}{_MESSAGE}",
    ),
    # INFO     | package.module:function:12 - …
    Layout("level | component -", 1.45, rf"{_IDS}\[?{_LEVEL}\]?{_S}[-|]{_S}{_NAME}{_S}[-|]{_S}{_MESSAGE}"),
    Layout("level -", 1.20, rf"{_IDS}\[?{_LEVEL}\]?{_S}[-|]{_S}{_MESSAGE}"),
    # package.module INFO …
    Layout("component level", 1.25, rf"\[?{_NAME}\]?{_S}\[?{_LOUD}\]?(?::|\s|$)\s{{0,8}}+{_MESSAGE}"),
    # node type component LEVEL …
    Layout(
        "words component level",
        1.22,
        rf"(?P<node>[^\s\[\]]{{1,100}}+){_S}(?:(?P<type>[^\s\[\]]{{1,100}}+){_S})?{_NAME}{_S}"
        rf"{_LOUD}(?:\s|$)\s{{0,8}}+{_MESSAGE}",
    ),
    # PostgreSQL: [1234] user@database LOG:  …
    Layout(
        "[pid] level:",
        1.45,
        rf"\[(?P<pid>\d{{1,10}}+)(?:-\d{{1,10}}+)?\]:?{_S}"
        rf"(?:(?P<user>[\w.-]{{1,60}}+)@(?P<database>[\w.-]{{1,60}}+){_S})?"
        rf"{_LOUD}:{_S}{_MESSAGE}",
    ),
    # file.go:12] …
    Layout(
        "klog",
        1.60,
        rf"(?P<tid>\d{{1,10}}+){_S}(?P<component>[\w./-]{{1,200}}+):(?P<line>\d{{1,8}}+)\](?:\s|$){_MESSAGE}",
        times=("klog",),
    ),
    # component|pid|…
    Layout("component|pid|", 1.45, rf"\|{_NAME}\|(?P<pid>\d{{1,20}}+)\|{_MESSAGE}"),
    Layout("level|component|", 1.50, rf"\|{_LEVEL}\s{{0,8}}+\|{_NAME}\|{_MESSAGE}"),
    # Containers' logs: stdout F …
    Layout("cri", 1.45, rf"(?P<stream>stdout|stderr) (?P<tag>[FP])(?:\s|$){_MESSAGE}", times=("iso",)),
    # host program[pid]: …
    Layout("syslog", 1.32, rf"(?P<host>[^\s:\[\]]{{1,255}}+) {{1,8}}{_TAG}{_MESSAGE}", times=("syslog",), service=True),
    Layout("syslog", 1.31, rf"(?P<host>[^\s:\[\]]{{1,255}}+) {{1,8}}{_TAG}{_MESSAGE}", sure="pid", service=True),
    Layout("syslog without tag", 0.60, rf"(?P<host>[^\s:\[\]]{{1,255}}+) {{1,8}}{_MESSAGE}", times=("syslog",)),
    # program[pid]: … and program - …
    Layout(
        "program[pid]:", 1.15, rf"{_NAME}(?:\[(?P<pid>\d{{1,10}}+)\])?:(?:\s|$){_MESSAGE}", sure="pid", service=True
    ),
    Layout("program -", 1.12, rf"(?P<component>[\w.-]{{1,100}}+(?: [^\s\w]\d{{1,4}}+)?) - {_MESSAGE}", service=True),
    Layout("component:", 1.05, rf"(?:\[(?P<pid>\d{{1,10}}+)\]{_S})?\[?{_NAME}\]?:(?:\s|$){_MESSAGE}"),
    # LEVEL … · [level] … · level: …
    Layout(
        "level",
        1.10,
        rf"{_IDS}(?:\[(?P<level>(?i:{_ANY}))\]:?|(?P<level2>{_BIG})(?::|(?=\s|$))|(?P<level3>(?i:{_ANY})):){_S}"
        rf"{_MESSAGE}",
    ),
    Layout("time and message", 0.50, _MESSAGE),
)

_DATED = ("iso", "slashed", "syslog", "day-month", "clock")
WHOLE: tuple[Layout, ...] = (
    # RFC 5424: <34>1 2003-10-11T22:14:15.003Z host app procid msgid [id k="v"] …
    Layout(
        "syslog RFC 5424",
        2.0,
        r"<(?P<priority>\d{1,3})>1 (?:%T%|-) (?P<host>\S{1,255}+) (?P<component>\S{1,255}+) (?P<pid>\S{1,128}+) "
        r"(?P<msgid>\S{1,255}+) "
        r"(?P<structured>-|(?:\[(?:[^\]\"\\]|\"(?:[^\"\\]|\\.){0,8000}+\"|\\.){1,8000}+\]){1,50}+)"
        r"(?: (?:\ufeff)?(?P<message>.*))?",
        times=("iso",),
        service=True,
        whole=True,
    ),
    # RFC 3164: <34>Oct 11 22:14:15 host tag[pid]: …
    Layout(
        "syslog RFC 3164",
        1.9,
        rf"<(?P<priority>\d{{1,3}})>%T% (?P<host>[^\s:\[\]]{{1,255}}+) {_TAG}{_MESSAGE}",
        times=("syslog", "iso"),
        service=True,
        whole=True,
    ),
    Layout(
        "syslog RFC 3164",
        1.6,
        rf"<(?P<priority>\d{{1,3}})>%T% (?:{_TAG})?{_MESSAGE}",
        times=("syslog", "iso"),
        service=True,
        whole=True,
    ),
    # host ident user [time] "GET / HTTP/1.1" 200 12 "referer" "agent"
    Layout(
        "access",
        2.0,
        r"(?:(?P<vhost>[\w.-]{1,255}+:\d{1,5}+) )?(?P<client>[^\s\"]{1,255}+) (?P<ident>[^\s\"]{1,255}+) "
        r"(?P<user>[^\"\[]{1,255}+)\[%T%\] "
        r"(?P<message>\"(?P<request>(?:[^\"\\]|\\.){0,100000}+)\" (?P<status>\d{3}) (?P<bytes>\d{1,20}+|-))"
        r"(?: \"(?P<referer>(?:[^\"\\]|\\.){0,20000}+)\" \"(?P<user_agent>(?:[^\"\\]|\\.){0,20000}+)\")?(?P<rest>.*)",
        times=("day-month",),
        whole=True,
    ),
    # record number, node, component, event, seconds since 1970, flag, text
    Layout(
        "numbered node component event epoch",
        1.6,
        r"(?P<record>\d{1,12}+) (?P<node>\S{1,255}+) (?P<component>\S{1,255}+) (?P<event>\S{1,255}+) %T% "
        r"(?P<flag>\d{1,6}+) (?P<message>.*)",
        times=("epoch",),
        whole=True,
    ),
    # INFO  [main] 2023-01-01 00:00:00,123 File.java:89 - …
    Layout(
        "level [thread] time component -",
        1.55,
        rf"\[?{_LEVEL}\]?{_S}(?:{_THREAD}{_S})?\[?%T%\]?{_S}{_COMPONENT}{_S}-{_S}{_MESSAGE}",
        times=_DATED,
        whole=True,
    ),
    Layout(
        "level time",
        1.10,
        rf"\[?{_LEVEL}\]?:?{_S}(?:{_THREAD}{_S})?\[?%T%\]?(?:\s|$)\s{{0,8}}+(?:[-|]\s{{1,8}}+)?{_MESSAGE}",
        times=_DATED,
        whole=True,
    ),
    # Ruby's Logger: I, [2023-01-01T00:00:00.123456 #1234]  INFO -- program: …
    Layout(
        "letter, [time #pid] level --",
        1.70,
        rf"[A-Z], \[%T% {{0,2}}#(?P<pid>\d{{1,10}}+)\]{_S}{_LEVEL}{_S}"
        rf"-- (?P<component>[^:]{{0,100}}+):(?:\s|$){_MESSAGE}",
        times=("iso",),
        whole=True,
    ),
    # Redis: 1234:M 01 Jan 2023 00:00:00.123 * …
    Layout(
        "pid:role time",
        1.40,
        rf"(?P<pid>\d{{1,10}}+):(?P<role>[XCSM]) %T% (?P<mark>[.*#-]) {_MESSAGE}",
        times=("day-month",),
        whole=True,
    ),
    # Python's logging.basicConfig: WARNING:package.module:…
    Layout("level:component:", 1.4, rf"(?P<level>{_BIG}):(?P<component>[\w.-]{{1,200}}+):(?P<message>.*)", whole=True),
)
