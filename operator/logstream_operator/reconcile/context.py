"""What reconciling works with; one of each process."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from sqlalchemy import select

from logstream.auth.accounts import Accounts
from logstream.clock import Clock
from logstream.settings import KafkaSettings, StoreSettings
from logstream.storage.store import Store
from logstream_operator.cluster.client import Cluster
from logstream_operator.cluster.events import Recorder
from logstream_operator.external.accounts import Administrator, open_accounts
from logstream_operator.external.connections import Files
from logstream_operator.external.pool import Pool
from logstream_operator.external.schema import Turn
from logstream_operator.external.store_users import StoreUsers
from logstream_operator.external.topics import Topics
from logstream_operator.objects.plane import ClusterFacts
from logstream_operator.reconcile.known import Known
from logstream_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Key:
    """A resource to reconcile. kind: LogStream or LogStreamAPIKey."""

    kind: str
    namespace: str
    name: str


@dataclass(slots=True)
class Context:
    """facts: which optional APIs there are, as of the last look. crash: called between any two steps that must
    survive a crash between them, with the step's name; tests raise in it."""

    cluster: Cluster
    settings: Settings
    clock: Clock
    recorder: Recorder
    files: Files
    enqueue: Callable[[Key, float | None], None]
    known: Known = field(default_factory=Known)
    facts: ClusterFacts = field(default_factory=ClusterFacts)
    crash: Callable[[str], None] = lambda step: None
    _written: dict[StoreSettings, dict[tuple[str, str], str]] = field(default_factory=dict)
    _turns: dict[Hashable, Turn] = field(default_factory=dict)
    kafka: Pool[Topics] = field(init=False)
    stores: Pool[Store] = field(init=False)
    accounts: Pool[Accounts] = field(init=False)

    def __post_init__(self) -> None:
        self.kafka = Pool(self.clock, most=8, reach=lambda topics: topics.admin.reach())
        self.stores = Pool(self.clock, most=8, reach=lambda store: store.check())
        # Each may hold a few connections to Postgres, which has a hundred.
        self.accounts = Pool(self.clock, most=16, reach=_reach_accounts)

    def store_users(self, store: Store, settings: StoreSettings) -> StoreUsers:
        """Users on the ClickHouse of `store`."""
        return StoreUsers(store, settings.cluster, self._written.setdefault(settings, {}))

    def turn(self, place: Hashable) -> Turn:
        """Of those who change tables of the data plane whose accounts are at `place`."""
        return self._turns.setdefault(place, Turn())

    @property
    def administrator(self) -> Administrator | None:
        """Of Postgres; None where the operator has none."""
        given = self.settings.postgres
        return None if given is None else Administrator(given.url, given.password.get_secret_value())

    async def close(self) -> None:
        await asyncio.gather(self.kafka.close(), self.stores.close(), self.accounts.close())


async def make_topics(settings: KafkaSettings) -> Topics:
    return Topics(settings)


async def make_store(settings: StoreSettings) -> Store:
    return await Store.connect(settings)


async def _reach_accounts(accounts: Accounts) -> None:
    async with accounts.database.read() as connection:
        await connection.execute(select(1))


async def make_accounts(url: str, password: str, clock: Clock) -> Accounts:
    return await open_accounts(url, password, clock)
