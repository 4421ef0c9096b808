"""Who may speak to the engine: no web page of another site, and where a password is set only who knows it.

The engine listens where a browser on the same machine reaches it. A page can send such requests across origins
(their answers stay hidden, their effects do not) and, by pointing its own name at 127.0.0.1 (DNS rebinding), even
read the answers. The first shows in `Origin` or `Sec-Fetch-Site`, the second in `Host`.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from logstream.standalone.engine import exceptions
from logstream.standalone.engine.exceptions import EngineError


class Guard:
    """listen: the address the engine listens on. hosts: further names it may be called by. password: "" asks none."""

    def __init__(self, *, listen: str, hosts: Sequence[str] = (), password: str = "") -> None:
        self._names = frozenset(name.lower().strip("[]") for name in (listen, *hosts) if name)
        # A name may be pointed anywhere by whoever owns it, an address may not.
        self._any_address = not _is_loopback(listen.lower().strip("[]"))
        self._password = password.encode()

    def check(self, headers: Mapping[bytes, bytes], query_string: bytes) -> None:
        """Raises EngineError: 403 for a page of another site or an unknown Host, 401 or 403 without the password.

        headers: names in lower case.
        """
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not _is_loopback(_hostname(origin)):
            raise _refused(f"requests of web pages from {origin} are refused")
        if not origin and headers.get(b"sec-fetch-site") == b"cross-site":
            raise _refused("requests of web pages from other sites are refused")
        host = headers.get(b"host", b"").decode("latin-1")
        if host and not self._knows(_hostname("//" + host)):
            raise _refused(f"this engine is not called {host}: use its address, or name it in LOGSTREAM_ENGINE_HOSTS")
        if self._password:
            self._authenticate(headers, query_string)

    def _knows(self, host: str) -> bool:
        return _is_loopback(host) or host in self._names or (self._any_address and _address(host) is not None)

    def _authenticate(self, headers: Mapping[bytes, bytes], query_string: bytes) -> None:
        given = _password(headers, query_string)
        if given is None or not hmac.compare_digest(given, self._password):
            raise EngineError(
                exceptions.AUTHENTICATION_FAILED,
                "default: Authentication failed: password is incorrect, or there is no user with such name.",
                "AUTHENTICATION_FAILED",
                status=401 if given is None else 403,
            )


def _password(headers: Mapping[bytes, bytes], query_string: bytes) -> bytes | None:
    key = headers.get(b"x-clickhouse-key")
    if key is not None:
        return key
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    found = parse_qs(query_string.decode("ascii", "replace"), keep_blank_values=True).get("password")
    return found[-1].encode() if found else None


def _refused(message: str) -> EngineError:
    return EngineError(exceptions.ACCESS_DENIED, message, "ACCESS_DENIED", status=403)


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback
