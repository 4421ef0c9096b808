"""Asking ClickHouse's servers: which one, how long, what its failure means, and when another is asked instead.

A read is asked of the next replica when the one before is away. A write is, only when it is sure that nothing was sent:
else it may have been stored, which whoever wrote must look up first.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeVar

from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from logstream.errors import LogStreamError, StoreUnavailable
from logstream.settings import StoreSettings
from logstream.storage.connection import Connections
from logstream.storage.endpoints import Endpoint, Shard, addresses
from logstream.storage.errors import insert_error, is_away, is_credentials, never_sent, query_error
from logstream.storage.progress import COST

PING_SECONDS = 3.0

_T = TypeVar("_T")
Ask = Callable[[AsyncClient], Awaitable[_T]]


class Servers:
    """All servers of the settings. Safe for concurrent calls. Raises InvalidValue for addresses that are none."""

    def __init__(self, settings: StoreSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._username = settings.username
        self.shards = tuple(Shard([Endpoint(address, clock) for address in shard]) for shard in addresses(settings.url))
        self.home = self.shards[0]
        """Where everything is read, and everything but the lines is kept."""
        self._connections = {
            endpoint: Connections(settings, endpoint) for shard in self.shards for endpoint in shard.endpoints
        }

    async def read(
        self,
        ask: Ask[_T],
        *,
        seconds: float | None = None,
        limits: Mapping[str, object] | None = None,
        streaming: bool = False,
    ) -> _T:
        """`ask` of the first shard's replicas until one answers.

        seconds: of one replica. limits: the settings of somebody's read, see `query_error`, which says what is raised.
        streaming: the answer's bytes are read later, and may take any time.
        """
        away: StoreUnavailable | None = None
        for endpoint in self.home.one_after_another():
            try:
                return await self._statement(endpoint, ask, seconds, limits, streaming)
            except _Away as error:
                away = error.error
        assert away is not None
        raise away

    async def _statement(
        self,
        endpoint: Endpoint,
        ask: Ask[_T],
        seconds: float | None,
        limits: Mapping[str, object] | None,
        streaming: bool = False,
    ) -> _T:
        cost = COST.get()
        try:
            async with asyncio.timeout(seconds):
                with nullcontext() if cost is None else cost.statement():
                    answer = await ask(await self._client(endpoint, streaming))
        except TimeoutError as error:
            await self._look_after(endpoint)
            raise StoreUnavailable("ClickHouse does not answer in time") from error
        except ClickHouseError as error:
            meaning = self._judged(endpoint, error) or query_error(error, limits if cost is not None else None)
            if is_away(error):
                if cost is not None:
                    # It may be at work on it still.
                    cost.abandoned = True
                raise _Away(StoreUnavailable(f"ClickHouse at {endpoint.address} is away: {error}")) from error
            raise meaning from error
        except OSError as error:
            endpoint.failed(str(error))
            raise _Away(StoreUnavailable(f"connection to ClickHouse failed: {error}")) from error
        endpoint.answered()
        return answer

    async def write(self, shard: Shard, ask: Ask[_T], *, seconds: float, what: str) -> _T:
        """`ask`, which stores something, of one replica. what: for the error text.

        Raises StoreUnavailable (it may have been stored), StoreRefused.
        """
        failure: LogStreamError | None = None
        for endpoint in shard.one_after_another():
            try:
                async with asyncio.timeout(seconds):
                    answer = await ask(await self._client(endpoint))
            except TimeoutError as error:
                await self._look_after(endpoint)
                raise StoreUnavailable(f"{what} took longer than {seconds} s") from error
            except _Away as error:
                failure = error.error
            except ClickHouseError as error:
                meaning = self._judged(endpoint, error) or insert_error(error)
                if not never_sent(error):
                    raise meaning from error
                failure = meaning
            except OSError as error:
                endpoint.failed(str(error))
                raise StoreUnavailable(f"connection to ClickHouse failed: {error}") from error
            else:
                endpoint.answered()
                return answer
        assert failure is not None
        raise failure

    async def everywhere(self, ask: Ask[_T], *, seconds: float) -> Sequence[_T]:
        """The answers of those of the first shard's replicas that are there; raises StoreUnavailable when none is."""
        asked = [endpoint for endpoint in self.home.endpoints if not endpoint.resting] or [self.home.choose()]
        found = await asyncio.gather(
            *(self._statement(endpoint, ask, seconds, None) for endpoint in asked), return_exceptions=True
        )
        answers = [answer for answer in found if not isinstance(answer, BaseException)]
        if answers:
            return answers
        error = next(answer for answer in found if isinstance(answer, BaseException))
        raise error.error if isinstance(error, _Away) else error

    async def ping(self) -> None:
        """Raises StoreUnavailable when none of the first shard's replicas answers within PING_SECONDS."""
        for endpoint in self.home.one_after_another():
            if await self._alive(endpoint):
                # Anybody may ping: that says nothing about the credentials.
                if not endpoint.refuses:
                    endpoint.answered()
                return
            endpoint.failed("does not answer")
        raise StoreUnavailable("ClickHouse does not answer")

    async def _alive(self, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(PING_SECONDS):
                return await (await self._client(endpoint)).ping(PING_SECONDS)
        except (TimeoutError, _Away):
            return False

    async def _look_after(self, endpoint: Endpoint) -> None:
        """After a call that took too long: busy, or away?"""
        if not await self._alive(endpoint):
            endpoint.failed("does not answer")

    async def _client(self, endpoint: Endpoint, streaming: bool = False) -> AsyncClient:
        """Raises _Away when it cannot be reached, StoreUnavailable when it refuses the credentials."""
        connections = self._connections[endpoint]
        try:
            return await (connections.streams() if streaming else connections.statements())
        except (ClickHouseError, OSError) as error:
            raise self._unreached(endpoint, error) from error

    def _unreached(self, endpoint: Endpoint, error: Exception) -> "LogStreamError | _Away":
        if isinstance(error, ClickHouseError) and (meaning := self._judged(endpoint, error)) is not None:
            return meaning
        reason = f"ClickHouse at {endpoint.address} cannot be reached: {error}"
        if "certificate verify failed" in reason:
            reason += " (LOGSTREAM_STORE_CA_FILE names the certificates that servers are checked by)"
        endpoint.failed(reason)
        return _Away(StoreUnavailable(reason))

    def _judged(self, endpoint: Endpoint, error: ClickHouseError) -> StoreUnavailable | None:
        """Note what an error says of the endpoint; what it means when it is about the credentials."""
        if is_credentials(error):
            reason = (
                f"ClickHouse at {endpoint.address} refuses the credentials of user {self._username!r}: "
                "check LOGSTREAM_STORE_USERNAME and LOGSTREAM_STORE_PASSWORD"
            )
            endpoint.failed(reason, credentials=True)
            return StoreUnavailable(reason)
        if is_away(error):
            endpoint.failed(str(error))
        else:
            endpoint.answered()
        return None

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        for connections in self._connections.values():
            await connections.close()


class _Away(Exception):
    """The replica could not be asked: the next one may answer."""

    def __init__(self, error: StoreUnavailable) -> None:
        super().__init__(error.message)
        self.error = error
