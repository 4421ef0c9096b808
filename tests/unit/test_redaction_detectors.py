"""What each built-in detector finds, and what it leaves alone."""

import base64

import pytest

from logstream.redact import DETECTORS, Redactor, redactor_for
from logstream.redact.card import is_card, luhn
from logstream.settings import RedactionRule, RedactionSettings

EVERYTHING = redactor_for(RedactionSettings(detectors=("all",)), "default")
KEY = "ls_" + "a1b2c3d4e5f6" + "_" + "Zz9" * 14 + "Q" + "_" + "0a1b2c3d"
BASIC = base64.b64encode(b"ada:lovelace").decode()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nx1==\n-----END RSA PRIVATE KEY-----"


def left(text: str, redactor: Redactor = EVERYTHING) -> str:
    return redactor.explain(text)[0].data.decode()


def only(name: str) -> Redactor:
    return redactor_for(RedactionSettings(detectors=(), rules=(RedactionRule(detector=name),)), "default")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("card", "paid with 4111111111111111.", "paid with [card]."),
        ("card", "4111 1111 1111 1111", "[card]"),
        ("card", "pan=4111-1111-1111-1111;", "pan=[card];"),
        ("card", "amex 3782 822463 10005 378282246310005", "amex [card] [card]"),
        ("card", "diners 3056 930902 5904 30569309025904", "diners [card] [card]"),
        ("card", "5555555555554444 2223003122003222 6011111111111117", "[card] [card] [card]"),
        ("card", "3530111333300000 6200000000000005 6759649826438453", "[card] [card] [card]"),
        ("card", "visa of 13 4222222222222 and of 19 4000000000000000006", "visa of 13 [card] and of 19 [card]"),
        ("card", "2026-01-31 4111 1111 1111 1111 12", "2026-01-31 [card] 12"),
        ("card", "1234 4111 1111 1111 1111", "1234 [card]"),
        ("card", '{"pan":"4111111111111111"}', '{"pan":"[card]"}'),
        ("card", r"a\n4111111111111111\n", r"a\n[card]\n"),
        ("card", "?n=%204111111111111111&", "?n=%20[card]&"),
        ("card", "\x1b[31m4111111111111111\x1b[0m", "\x1b[31m[card]\x1b[0m"),
        ("card", "карта4111111111111111号", "карта[card]号"),
        ("email", "mail <Ada.Lovelace+x@mail.example.co.uk>,", "mail <[email]>,"),
        ("email", "user=ada@example.com", "user=[email]"),
        ("email", "?e=ada%40example.com&", "?e=[email]&"),
        ("email", "пользователь@пример.рф", "[email]"),
        ("ipv4", "from 10.0.0.1:8080, 203.0.113.255", "from [ipv4]:8080, [ipv4]"),
        ("ipv4", "5.36.59.76.dynamic-dsl-ip.example.om", "[ipv4].dynamic-dsl-ip.example.om"),
        ("ipv6", "[2001:db8::1]:443 fe80::1%eth0 ::1", "[[ipv6]]:443 [ipv6]%eth0 [ipv6]"),
        ("ipv6", "2001:db8:0:1:1:1:1:1 ::ffff:192.0.2.128 2001:db8::1: refused", "[ipv6] [ipv6] [ipv6]: refused"),
        ("ipv6", "/0:0:0:0:0:0:0:1:2181:Fast 1:2:3:4:5:6:10.0.0.1", "/[ipv6]:2181:Fast [ipv6]"),
        ("bearer", "bearer abc123def456", "bearer [bearer]"),
        ("bearer", f"sent Basic {BASIC} on", "sent Basic [bearer] on"),
        ("api_key", f"key {KEY}", "key [api_key]"),
        ("api_key", "AKIAIOSFODNN7EXAMPLE ghp_" + "a1" * 18, "[api_key] [api_key]"),
        ("api_key", "glpat-AbCdEfGhIjKlMnOpQrSt xoxb-123456789012-abc", "[api_key] [api_key]"),
        ("api_key", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc", "[api_key]"),
        ("api_key", "AIza" + "Sy0" * 11 + "ab sk-proj-abcdefghij0123456789ABCD", "[api_key] [api_key]"),
        ("jwt", f"token {JWT}!", "token [jwt]!"),
        ("private_key", f"a\n{PEM}\nb", "a\n[private_key]\nb"),
        ("private_key", PEM[:60], "[private_key]"),
        ("url_password", "postgres://app:p@ss:w0rd@db:5432/x", "postgres://app:[url_password]@db:5432/x"),
        ("url_password", "redis://:secret@cache", "redis://:[url_password]@cache"),
        ("secret", "password=hunter2 next", "password=[secret] next"),
        ("secret", 'login {"user":"ada","password":"a\\"b, c"}', 'login {"user":"ada","password":"[secret]"}'),
        ("secret", r"{\"db_password\":\"a b\",\"x\":1}", r"{\"db_password\":\"[secret]\",\"x\":1}"),
        ("secret", "{'api_key': 'abc'}", "{'api_key': '[secret]'}"),
        ("secret", "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPx", "AWS_SECRET_ACCESS_KEY=[secret]"),
        ("secret", "client_secret => abc, token: abc123def", "client_secret => [secret], token: [secret]"),
        ("secret", "Authorization: Token abcdef", "Authorization: Token [secret]"),
        ("secret", 'Authorization: Digest username="a", response="b"', "Authorization: Digest [secret]"),
        ("secret", "Cookie: a=b; c=d\nHost: x", "Cookie: [secret]\nHost: x"),
        ("secret", "https://x/?token=abc&y=1", "https://x/?token=[secret]&y=1"),
        ("secret", "Passwort: x, PASSWD:y", "Passwort: x, PASSWD:[secret]"),
    ],
)
def test_what_is_found(name: str, before: str, after: str) -> None:
    assert left(before, only(name)) == after
    assert left(after, only(name)) == after
    assert left(left(before)) == left(before)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112 fails Luhn's test",
        "1700000000000 1700000000000000000 are times",
        "0.4111111111111111 3.4111111111111111 are fractions",
        "14111111111111111 is longer, as is 4111-1111-1111-1111-1",
        "x4111111111111111 and 4111111111111111x are names",
        "blk_4111111111111111 and blk_-4111111111111111 are blocks",
        "0000000000000000 is a number, as are 2000000000000006 and 2800000000000008",
        "icon@2x.png, getty@tty1.service, lodash@4.17.21, root@localhost",
        "v1.2.3.4, 1.3.6.1.4.1, 256.1.1.1, 1.2.3",
        "12:34:56, aa:bb:cc:dd:ee:ff, 00:11:22:33:44:55:66:77, 00:11:22:33:44:55:66:77:88:99:aa:bb",
        "std::string, ab::cd",
        "bearer authentication failed; basic authentication, Basic understanding",
        "sk-learn-is-a-library-of-python, tasking-is-not-a-key",
        "unexpected token: identifier, password: null, has_password=true, token=",
        "passwordless login, max_tokens=150, PWD=/home/ada, password=****",
        "http://example.com:8080/a@b, s3://bucket/key",
        "eyJ is no token",
        "",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert left(text) == text


def test_luhn() -> None:
    assert luhn(b"79927398713")
    assert not any(luhn(b"7992739871%d" % digit) for digit in (0, 1, 2, 4, 5, 6, 7, 8, 9))
    assert is_card(b"4111111111111111")
    assert not is_card(b"1111111111111117"), "no network begins with 1"


@pytest.mark.parametrize(
    "key",
    ["password", "user.password", "userPassword", "DB_PASSWD", "authorization", "request.headers.Authorization",
     "x-api-key", "apiKey", "set-cookie", "refresh_token", "client_secret", "credentials.user", "auth", "secrets"],
)  # fmt: skip
def test_values_under_a_telling_key_are_secrets(key: str) -> None:
    assert EVERYTHING.explain("xyz", key=key)[0].data == b"[secret]"
    assert EVERYTHING.explain("[secret]", key=key)[0].findings == ()


@pytest.mark.parametrize(
    "key", ["passwordless", "author", "token_count", "secretary", "keyboard", "key", "cookies_on", "authentic"]
)
def test_other_keys_tell_nothing(key: str) -> None:
    assert EVERYTHING.explain("xyz", key=key)[0].data == b"xyz"


def test_detectors_say_what_they_are() -> None:
    for name, detector in DETECTORS.items():
        assert detector.name == name
        assert detector.about
