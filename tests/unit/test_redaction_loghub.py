"""What the detectors find in real logs: addresses that are there, and next to nothing else."""

import pytest
from tests.support.loghub import LOGHUB

from logstream.redact import redactor_for
from logstream.settings import RedactionSettings

FILES = sorted(LOGHUB.glob("*/*_2k.log"))
EVERYTHING = redactor_for(RedactionSettings(detectors=("all",), rules=()), "default")


@pytest.mark.skipif(not FILES, reason="Loghub's samples are not at hand (LOGSTREAM_LOGHUB)")
def test_real_logs_hold_addresses_and_one_e_mail() -> None:
    """No block, request, session or process number is taken for a card, no `Token =` for a secret."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            data = line.encode()
            for start, end, rule, _ in EVERYTHING.explain(line)[0].findings:
                found.setdefault(rule.name, []).append(data[start:end].decode())
    addresses = found.pop("ipv4")
    assert len(addresses) > 6_000
    assert all(len(address.split(".")) == 4 for address in addresses)
    assert set(found.pop("ipv6")) == {"0:0:0:0:0:0:0:0"}
    assert found == {"email": ["bhcompile@bugs.build.redhat.com"]}
