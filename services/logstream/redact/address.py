"""E-mail and IP addresses."""

import ipaddress

from logstream.redact.detector import START, Detector

_FILES = (b".png", b".jpg", b".jpeg", b".gif", b".svg", b".webp", b".js", b".css", b".jar", b".so", b".service")
"""What looks like the end of a domain in `icon@2x.png` and `getty@tty1.service`."""
_LONGEST_IP = 45


def _check_email(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    return end if data[start:end].lower().endswith(_FILES) else (start, end)


EMAIL = Detector(
    "email",
    "e-mail addresses",
    r"[A-Za-z0-9._+'\-\pL\pN](?:[A-Za-z0-9._%+'\-\pL\pN])*(?:@|%40)"
    r"(?:[A-Za-z0-9\pL\pN](?:[A-Za-z0-9\-\pL\pN])*\.)+[A-Za-z\pL]{2,24}",
    hint=r"[^\s@](?:@|%40)[^\s@]",
    check=_check_email,
    normal=lambda value: value.replace(b"%40", b"@").decode(errors="replace").lower().encode(),
)


def _check_ipv4(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """Not a piece of a version or an object identifier with more parts."""
    if data[start - 1 : start] == b"." and data[max(0, start - 2) : start - 1].isdigit():
        return end
    if data[end : end + 1] == b"." and data[end + 1 : end + 2].isdigit():
        return end
    return start, end


def _normal_ip(value: bytes) -> bytes:
    try:
        return str(ipaddress.ip_address(value.decode())).encode()
    except ValueError:
        return value


_GROUP = r"[0-9A-Fa-f]{1,4}"
_OCTET = r"(?:25[0-5]|2[0-4]\d|[01]?\d?\d)"

IPV4 = Detector(
    "ipv4",
    "IPv4 addresses",
    START + rf"({_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET})\b",
    check=_check_ipv4,
    normal=_normal_ip,
)


def _check_ipv6(data: bytes, start: int, end: int) -> tuple[int, int] | int:
    """An address as Python reads it; neither times, hardware addresses and fingerprints nor names with `::`."""
    whole = end
    before = data[start - 1 : start]
    if before.isalnum() or before in (b"_", b":") or data[end : end + 1].isalnum() or data[end : end + 1] == b"_":
        return whole
    while end > start and data[end - 1] in b".:" and data[end - 2 : end] != b"::":
        end -= 1
    text = data[start:end]
    groups = text.split(b":")
    if len(text) > _LONGEST_IP or text == b"::" or all(len(group) == 2 for group in groups):
        return whole
    if b"." not in text and len(groups) < 5 and not any(byte in b"0123456789" for byte in text):
        return whole
    try:
        ipaddress.IPv6Address(text.decode())
    except ValueError:
        return whole
    return start, end


IPV6 = Detector(
    "ipv6",
    "IPv6 addresses",
    # In full it ends where it does: Java writes a port behind it without brackets.
    rf"[0-9A-Fa-f:]*::[0-9A-Fa-f:.]*|(?:{_GROUP}:){{7}}{_GROUP}|(?:{_GROUP}:){{6}}{_OCTET}(?:\.{_OCTET}){{3}}",
    hint=rf"(?:{_GROUP}:){{6}}[0-9A-Fa-f]|::[0-9A-Fa-f]|[0-9A-Fa-f]::",
    check=_check_ipv6,
    normal=_normal_ip,
)
