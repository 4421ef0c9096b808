"""Whether a collector knows a key: asked of a real one, and never leaving anything there."""

from pathlib import Path

from tests.support.ingest import ingest
from tests.support.ports import free_ports

from logstream.auth.keys import make_key
from logstream.auth.principal import Scope
from logstream_operator.reconcile.confirm import knows


async def test_a_real_collector_tells_known_keys_from_others(tmp_path: Path) -> None:
    async with ingest(tmp_path) as collector:
        address = f"http://127.0.0.1:{collector.port}"
        assert await knows(address, collector.key)
        reader, reader_id = await collector.create_key(scopes=(Scope.READ,))
        assert await knows(address, reader), "one that may only read is known, too"
        assert not await knows(address, make_key().text)
        assert not await knows(address, "nonsense")
        # As the operator does it: made elsewhere, registered by its hash.
        made = make_key()
        assert not await knows(address, made.text)
        await collector.accounts.keys.register(
            made.id, made.digest, "made elsewhere", scopes=[Scope.INGEST], stream=collector.stream.name
        )
        assert await knows(address, made.text)
        await collector.accounts.keys.revoke(reader_id)
        assert not await knows(address, reader)
        assert await collector.records() == []


async def test_nobody_there_is_no_yes() -> None:
    [port] = free_ports(1)
    assert not await knows(f"http://127.0.0.1:{port}", make_key().text)
