"""The built-in detectors by name, in the order in which they win where findings overlap."""

from collections.abc import Mapping

from logstream.redact.address import EMAIL, IPV4, IPV6
from logstream.redact.card import CARD
from logstream.redact.detector import Detector
from logstream.redact.secret import API_KEY, BEARER, JWT, PRIVATE_KEY, SECRET, URL_PASSWORD

DETECTORS: Mapping[str, Detector] = {
    detector.name: detector
    for detector in (PRIVATE_KEY, JWT, API_KEY, BEARER, URL_PASSWORD, SECRET, CARD, EMAIL, IPV4, IPV6)
}
