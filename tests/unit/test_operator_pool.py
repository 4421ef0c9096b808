"""Clients of backends: opened once, not asked again at once when they are away, closed when unused."""

import pytest

from logstream.clock import ManualClock
from logstream.errors import Unavailable
from logstream_operator.external.pool import IDLE_SECONDS, REST_SECONDS, Pool


class Client:
    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


async def make() -> Client:
    return Client()


async def test_one_client_for_all_who_ask() -> None:
    clock = ManualClock()
    pool: Pool[Client] = Pool(clock)
    async with pool.use("a", make) as one, pool.use("a", make) as other:
        assert one is other
    clock.advance(IDLE_SECONDS + 1)
    async with pool.use("b", make):
        pass
    assert one.closed == 1
    await pool.close()


async def test_one_that_is_away_is_not_asked_again_for_a_moment() -> None:
    clock, asked = ManualClock(), 0
    pool: Pool[Client] = Pool(clock)

    async def away() -> Client:
        nonlocal asked
        asked += 1
        raise Unavailable("away")

    for _ in range(5):
        with pytest.raises(Unavailable, match="away"):
            async with pool.use("a", away):
                pass
    assert asked == 1
    clock.advance(REST_SECONDS)
    async with pool.use("a", make):
        pass
    async with pool.use("b", make):
        pass
    await pool.close()


async def test_no_more_than_some_are_kept() -> None:
    pool: Pool[Client] = Pool(ManualClock(), most=2)
    seen = []
    for key in range(5):
        async with pool.use(key, make) as client:
            seen.append(client)
    assert sum(client.closed for client in seen) == 3
    await pool.close()
    assert all(client.closed == 1 for client in seen)


async def test_a_question_that_fails_while_the_backend_is_there_stops_nobody_else() -> None:
    reached, is_there = 0, True

    async def reach(client: Client) -> None:
        nonlocal reached
        reached += 1
        if not is_there:
            raise Unavailable("not there")

    pool: Pool[Client] = Pool(ManualClock(), reach=reach)
    for count in (1, 2):
        with pytest.raises(Unavailable, match="busy"):
            async with pool.use("a", make):
                raise Unavailable("busy")
        assert reached == count
    is_there = False
    with pytest.raises(Unavailable, match="busy"):
        async with pool.use("a", make):
            raise Unavailable("busy")
    with pytest.raises(Unavailable, match="busy"):
        async with pool.use("a", make):
            pytest.fail("it rests")
    assert reached == 3
    await pool.close()
