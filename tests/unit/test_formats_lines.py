"""Each format that import knows: found out from sample lines, and its lines read."""

from datetime import UTC, datetime
from typing import Any

import pytest

from logstream.errors import InvalidValue
from logstream.formats import PLAIN, Parsed, Reading, detect, named, names
from logstream.record import Level

NOW = Reading(int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9)
SU = "<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed"


def ns(text: str) -> int:
    """2023-01-02 03:04:05.000000006, UTC, as nanoseconds."""
    seconds, _, fraction = text.partition(".")
    return int(datetime.fromisoformat(seconds + "+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def parse(*lines: str, reading: Reading = NOW) -> list[Parsed]:
    form = detect(lines * 3, reading)
    parsed = [form.parse(line) for line in lines]
    assert None not in parsed
    return [p for p in parsed if p is not None]


CASES: list[tuple[str, str, str, Level | None, str, dict[str, str]]] = [
    # line, time, service, level, message, metadata
    # Hadoop, Spark, HDFS, ZooKeeper, OpenStack
    ("2015-10-18 18:01:47,978 INFO [main] org.example.v2.App: Executing with tokens:", "2015-10-18 18:01:47.978", "",
     Level.INFO, "Executing with tokens:", {"component": "org.example.v2.App", "thread": "main"}),
    ("17/06/09 20:10:40 WARN executor.Backend: Registered handlers for [TERM, HUP]", "2017-06-09 20:10:40", "",
     Level.WARN, "Registered handlers for [TERM, HUP]", {"component": "executor.Backend"}),
    ("081109 203615 148 INFO dfs.DataNode$Responder: Responder 1 for block: 7", "2008-11-09 20:36:15", "",
     Level.INFO, "Responder 1 for block: 7", {"component": "dfs.DataNode$Responder", "pid": "148"}),
    ("2015-07-29 19:04:12,394 - WARN  [Worker[id=1]:Manager$Listener@493] - Received", "2015-07-29 19:04:12.394",
     "", Level.WARN, "Received", {"component": "Manager$Listener", "thread": "Worker[id=1]", "line": "493"}),
    ("api.log.1 2017-05-16 00:00:00.008 25746 INFO nova.wsgi.server [req-1 - - -] 10.0.0.1 \"GET /\" status: 200",
     "2017-05-16 00:00:00.008", "", Level.INFO, '10.0.0.1 "GET /" status: 200',
     {"component": "nova.wsgi.server", "pid": "25746", "context": "req-1 - - -",
      "prefix": "api.log.1"}),
    # syslog
    ("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: check pass; user unknown", "2026-06-14 15:16:01", "sshd",
     None, "check pass; user unknown", {"component": "sshd(pam_unix)", "host": "combo", "pid": "19939"}),
    ("2023-01-01T00:00:00.5+01:00 web1 app[12]: hello", "2022-12-31 23:00:00.5", "app", None, "hello",
     {"component": "app", "host": "web1", "pid": "12"}),
    (SU, "2026-10-11 22:14:15", "su", Level.FATAL, "'su root' failed",
     {"component": "su", "host": "mymachine", "pid": "12", "facility": "4"}),
    ('<165>1 2003-10-11T22:14:15.003Z m.example.com evntslog - ID47 [x@32473 iut="3" src="a\\"b]"] \ufeffAn event',
     "2003-10-11 22:14:15.003", "evntslog", Level.INFO, "An event",
     {"component": "evntslog", "host": "m.example.com", "msgid": "ID47", "facility": "20", "iut": "3", "src": 'a"b]'}),
    # web servers
    ("[Sun Dec 04 04:47:44 2005] [error] [client 1.2.3.4] Directory index forbidden", "2005-12-04 04:47:44", "",
     Level.ERROR, "[client 1.2.3.4] Directory index forbidden", {"client": "1.2.3.4"}),
    ("[Wed Oct 11 14:32:52.123456 2017] [core:warn] [pid 35708:tid 43286] AH00128: gone", "2017-10-11 14:32:52.123456",
     "", Level.WARN, "AH00128: gone", {"component": "core", "pid": "35708", "tid": "43286"}),
    ("2023/01/02 03:04:05 [error] 123#7: *1 open() failed", "2023-01-02 03:04:05", "", Level.ERROR,
     "*1 open() failed", {"pid": "123", "tid": "7"}),
    ('127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326', "2000-10-10 20:55:36", "",
     Level.INFO, '"GET /a.gif HTTP/1.0" 200 2326',
     {"client": "127.0.0.1", "user": "frank", "status": "200", "bytes": "2326", "method": "GET", "path": "/a.gif",
      "protocol": "HTTP/1.0"}),
    ('::1 - - [10/Oct/2000:13:55:36 +0000] "POST / HTTP/1.1" 503 - "http://x/" "Mozilla/5.0 \\"q\\""',
     "2000-10-10 13:55:36", "", Level.ERROR, '"POST / HTTP/1.1" 503 -',
     {"client": "::1", "status": "503", "method": "POST", "path": "/", "protocol": "HTTP/1.1",
      "referer": "http://x/", "user_agent": 'Mozilla/5.0 \\"q\\"'}),
    ('1.2.3.4 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/1.1" 200 7 "-" "curl" 0.005 up1', "2000-10-10 13:55:36", "",
     Level.INFO, '"GET / HTTP/1.1" 200 7',
     {"client": "1.2.3.4", "status": "200", "bytes": "7", "method": "GET", "path": "/", "protocol": "HTTP/1.1",
      "user_agent": "curl", "rest": "0.005 up1"}),
    # log4j, Logback, Spring Boot, Tomcat, Elasticsearch, Cassandra
    ("2023-01-01 14:22:11.123 [http-1] ERROR c.e.App - broken - x", "2023-01-01 14:22:11.123", "", Level.ERROR,
     "broken - x", {"component": "c.e.App", "thread": "http-1"}),
    ("2023-01-01T00:00:00.000+01:00  INFO 1234 --- [app] [           main] c.e.App      : Started",
     "2022-12-31 23:00:00", "", Level.INFO, "Started",
     {"component": "c.e.App", "thread": "main", "pid": "1234", "application": "app"}),
    ("10-Oct-2023 13:55:36.123 SEVERE [main] org.example.Catalina.start Startup in 5 ms", "2023-10-10 13:55:36.123",
     "", Level.ERROR, "Startup in 5 ms", {"component": "org.example.Catalina.start", "thread": "main"}),
    ("[2023-01-01T00:00:00,123][WARN ][o.e.n.Node     ] [node-1] starting ...", "2023-01-01 00:00:00.123", "",
     Level.WARN, "starting ...", {"component": "o.e.n.Node", "node": "node-1"}),
    ("INFO  [main] 2023-01-01 00:00:00,123 Loader.java:89 - location", "2023-01-01 00:00:00.123", "", Level.INFO,
     "location", {"component": "Loader.java:89", "thread": "main"}),
    # Python
    ("2023-01-01 00:00:00,123 - my.mod - CRITICAL - it: broke", "2023-01-01 00:00:00.123", "", Level.FATAL, "it: broke",
     {"component": "my.mod"}),
    ("2023-01-01 00:00:00,123 my.mod WARNING it broke", "2023-01-01 00:00:00.123", "", Level.WARN, "it broke",
     {"component": "my.mod"}),
    ("2023-01-01 00:00:00,123 [DEBUG] my.mod: hello", "2023-01-01 00:00:00.123", "", Level.DEBUG, "hello",
     {"component": "my.mod"}),
    ("[2023-01-01 00:00:00,123] ERROR in app: hello", "2023-01-01 00:00:00.123", "", Level.ERROR, "hello",
     {"component": "app"}),
    ("[2023-01-01 00:00:00,123: INFO/MainProcess] Task x", "2023-01-01 00:00:00.123", "", Level.INFO, "Task x",
     {"thread": "MainProcess"}),
    ("2023-01-01 00:00:00.123 | INFO     | mod:main:12 - hello", "2023-01-01 00:00:00.123", "", Level.INFO, "hello",
     {"component": "mod:main:12"}),
    # databases
    ("2023-01-01 00:00:00.000 CET [124] bob@shop ERROR:  relation", "2022-12-31 23:00:00", "", Level.ERROR, "relation",
     {"pid": "124", "user": "bob", "database": "shop"}),
    ("2023-01-01T00:00:00.123456Z 0 [Note] [MY-010116] [Server] ready", "2023-01-01 00:00:00.123456", "", Level.INFO,
     "ready", {"component": "Server", "thread": "0", "code": "MY-010116"}),
    ("1234:M 01 Jan 2023 00:00:00.123 * Ready", "2023-01-01 00:00:00.123", "", None, "Ready",
     {"pid": "1234", "role": "M", "mark": "*"}),
    # Kubernetes, Go, Rust, Ruby
    ("E0102 15:04:05.000123    1234 server.go:12] bad", "2026-01-02 15:04:05.000123", "", Level.ERROR, "bad",
     {"component": "server.go", "tid": "1234", "line": "12"}),
    ("2023-01-01T00:00:00.123456789Z stderr F hello", "2023-01-01 00:00:00.123456789", "", None, "hello",
     {"stream": "stderr", "tag": "F"}),
    ("2023/01/02 03:04:05 listening on :80", "2023-01-02 03:04:05", "", None, "listening on :80", {}),
    ("[2023-01-01T00:00:00Z WARN  my::mod] hello", "2023-01-01 00:00:00", "", Level.WARN, "hello",
     {"component": "my::mod"}),
    ("E, [2023-01-01T00:00:00.123456 #1234] ERROR -- web: Started", "2023-01-01 00:00:00.123456", "", Level.ERROR,
     "Started", {"component": "web", "pid": "1234"}),
    # supercomputers, desktops, phones
    ("- 1117838570 2005.06.03 R02-M1 2005-06-03-15.42.50.363779 R02-M1 RAS KERNEL FATAL cache error corrected",
     "2005-06-03 22:42:50.363779", "", Level.FATAL, "cache error corrected",
     {"component": "KERNEL", "node": "R02-M1", "type": "RAS"}),
    ("- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond(pam_unix)[2915]: session closed",
     "2005-11-09 20:01:01", "crond", None, "session closed",
     {"component": "crond(pam_unix)", "host": "dn228/dn228", "pid": "2915"}),
    ("134681 node-246 unix.hw state_change.down 1077804742 1 Component State Change: x", "2004-02-26 14:12:22", "",
     None, "Component State Change: x",
     {"component": "unix.hw", "record": "134681", "node": "node-246", "event": "state_change.down", "flag": "1"}),
    ("2016-09-28 04:30:30, Info                  CBS    Loaded Stack: x", "2016-09-28 04:30:30", "", Level.INFO,
     "Loaded Stack: x", {"component": "CBS"}),
    ("Jul  1 09:01:05 mac com.example.xpc.daemon[1] (com.example.job[1344]): Endpoint active", "2026-07-01 09:01:05",
     "com.example.xpc.daemon", None, "Endpoint active",
     {"component": "com.example.xpc.daemon", "host": "mac", "pid": "1", "unit": "com.example.job[1344]"}),
    ("Jul  2 10:11:20 mac Google Chrome Helper[35628]: deprecated", "2026-07-02 10:11:20", "Google Chrome Helper", None,
     "deprecated", {"component": "Google Chrome Helper", "host": "mac", "pid": "35628"}),
    ("03-17 16:13:38.811  1702  2395 V WindowManager: freezing: x", "2026-03-17 16:13:38.811", "", Level.TRACE,
     "freezing: x", {"component": "WindowManager", "pid": "1702", "tid": "2395"}),
    ("20171224-0:7:20:44|Step_LSC|30002312|onChange 3579", "2017-12-24 00:07:20.044", "", None, "onChange 3579",
     {"component": "Step_LSC", "pid": "30002312"}),
    ("[10.30 16:49:06] box.exe *64 - example.com:443 close, 3 bytes - x", "2026-10-30 16:49:06", "box.exe", None,
     "example.com:443 close, 3 bytes - x", {"component": "box.exe *64"}),
    # others
    ("04/30/2023 8:10:40 PM ERROR: y", "2023-04-30 20:10:40", "", Level.ERROR, "y", {}),
    ("30.04.2023 20:10:40 INFO x: y", "2023-04-30 20:10:40", "", Level.INFO, "y", {"component": "x"}),
    ("1672531200123 WARN hello", "2023-01-01 00:00:00.123", "", Level.WARN, "hello", {}),
    ('{"time":"2023-01-01T00:00:00Z","level":"warn","msg":"hi","service":"pay","http":{"status":200,"ok":true}}',
     "2023-01-01 00:00:00", "pay", Level.WARN, "hi", {"http.status": "200", "http.ok": "true"}),
    ('{"ts":1672531200.25,"level":"info","msg":"x","logger":"a.b","n":null}', "2023-01-01 00:00:00.25", "", Level.INFO,
     "x", {"component": "a.b"}),
    ('ts=2023-01-01T00:00:00Z level=warning msg="a \\"b\\"" service=pay n=3 empty=', "2023-01-01 00:00:00", "pay",
     Level.WARN, 'a "b"', {"n": "3", "empty": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "time", "service", "level", "message", "metadata"), CASES, ids=[c[0] for c in CASES])
def test_line(line: str, time: str, service: str, level: Level | None, message: str, metadata: dict[str, str]) -> None:
    (parsed,) = parse(line)
    assert parsed == Parsed(ns(time), None if level is None else int(level), service, message, metadata)


def test_python_lines_without_a_time() -> None:
    parsed = parse("WARNING:root:beware", "INFO:a.b:x: y")
    assert [(p.timestamp, p.level, p.metadata, p.message) for p in parsed] == [
        (None, Level.WARN, {"component": "root"}, "beware"),
        (None, Level.INFO, {"component": "a.b"}, "x: y"),
    ]


def test_lines_of_another_head_are_read_with_the_second_best() -> None:
    parsed = parse(
        "Jun 14 15:16:01 combo kernel: up",
        "Jun 14 15:16:02 combo last message repeated 2 times",
        "Jun 14 15:16:03 x y: z",
    )
    assert [(p.metadata.get("component"), p.message) for p in parsed] == [
        ("kernel", "up"), (None, "last message repeated 2 times"), ("y", "z"),
    ]  # fmt: skip


def test_a_line_outside_the_sample_keeps_its_time() -> None:
    form = detect(["2015-10-18 18:01:47,978 INFO [main] a.B: c"], NOW)
    parsed = form.parse("2015-10-18 18:01:48,000 something else")
    assert parsed == Parsed(ns("2015-10-18 18:01:48"), None, "", "something else", {})


@pytest.mark.parametrize("sample", [[], [""], ["hello", "there"], ["\x00\x01\ufffd"] * 5])
def test_what_has_no_format_is_plain_text(sample: list[str]) -> None:
    assert detect(sample, NOW) is PLAIN


def test_a_time_in_one_of_many_lines_makes_no_format() -> None:
    assert detect(["Backup begun at 2023-01-01 00:00:00", *(f"copied file {i}" for i in range(99))], NOW) is PLAIN


def test_a_format_can_be_asked_for() -> None:
    sample = ["Jun 14 15:16:01 combo sshd[1]: a"]
    assert named("time and message", sample, NOW).parse(sample[0]) == Parsed(
        ns("2026-06-14 15:16:01"), None, "", "combo sshd[1]: a", {}
    )
    assert named("json", [], NOW).parse('{"msg":"x"}') == Parsed(None, None, "", "x", {})
    with pytest.raises(InvalidValue, match="no line of the sample"):
        named("access", sample, NOW)
    with pytest.raises(InvalidValue, match="there is no format nonsense") as caught:
        named("nonsense", sample, NOW)
    assert "logfmt" in str(caught.value.limit)


def test_every_name_is_one_format_or_a_family() -> None:
    every: list[Any] = names()
    assert len(every) == len(set(every))
    assert {"json", "logfmt", "plain", "access", "syslog RFC 5424"} <= set(every)
