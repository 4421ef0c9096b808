"""Hashing passwords: bounded, and the same work for accounts that do not exist."""

import asyncio

import pytest

from logstream.auth.passwords import Passwords
from logstream.errors import Unavailable


class Recording(Passwords):
    """Remembers what was verified against."""

    def __init__(self) -> None:
        super().__init__(memory_kib=8, passes=1)
        self.against: list[str] = []

    def _matches(self, stored: str, password: str) -> bool:
        self.against.append(stored)
        return super()._matches(stored, password)


async def test_a_password_matches_its_hash_only() -> None:
    passwords = Passwords(memory_kib=8, passes=1)
    stored = await passwords.hash("correct horse battery")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "correct horse battery")
    assert not await passwords.verify(stored, "correct horse batterY")
    assert not await passwords.verify("", "")
    assert not await passwords.verify("not a hash", "correct horse battery")
    assert not passwords.is_outdated(stored)
    assert Passwords().is_outdated(stored)
    passwords.close()


async def test_nobody_costs_as_much_as_somebody() -> None:
    passwords = Recording()
    await passwords.verify(await passwords.hash("correct horse battery"), "wrong")
    assert not await passwords.verify(None, "wrong")
    somebody, nobody = [stored.rsplit("$", 2)[0] for stored in passwords.against]
    assert somebody == nobody == "$argon2id$v=19$m=8,t=1,p=1"
    passwords.close()


async def test_a_flood_is_refused_and_passes() -> None:
    passwords = Passwords(memory_kib=8, passes=1)
    answers = await asyncio.gather(*(passwords.hash("password") for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(answer, str) for answer in answers) == 34
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 66
    assert await passwords.verify(await passwords.hash("password"), "password")
    passwords.close()


async def test_callers_that_go_away_do_not_raise_the_bound() -> None:
    passwords = Passwords(memory_kib=8, passes=1)
    for _ in range(5):
        calls = [asyncio.create_task(passwords.hash("password")) for _ in range(30)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(10):
            while passwords._pending:
                await asyncio.sleep(0.001)
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    await passwords.hash("password")
    passwords.close()
