"""Users of data planes on a real Kafka that asks for credentials and asks who may do what."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.support.kafka import Kafka

from logstream.errors import BusUnavailable, LogStreamError
from logstream.settings import KafkaSettings
from logstream.stream import make_stream
from logstream_operator.external.topics import Topics, WantedTopics
from logstream_operator.external.users import KafkaUsers

AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Who comes without credentials is nobody; the administrator may do everything."""
    broker = Kafka(
        tmp_path_factory.mktemp("guarded-kafka"),
        # The controller's listener and the tests' own ask for nothing.
        overrides={"authorizer.class.name": AUTHORIZER, "super.users": "User:ANONYMOUS;User:logstream"},
    )
    try:
        yield broker.start()  # type: ignore[misc]
    finally:
        broker.stop()


def settings_of(broker: Any, username: str, password: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=broker.secure.sasl_plaintext,
        security_protocol="SASL_PLAINTEXT",
        username=username,
        password=SecretStr(password),
        replication_factor=1,
        min_insync_replicas=1,
        partitions=1,
        request_timeout_seconds=5,
    )


@pytest.fixture
async def administrator(guarded: Kafka) -> AsyncIterator[Topics]:
    topics = Topics(KafkaSettings(bootstrap_servers=guarded.bootstrap, replication_factor=1, min_insync_replicas=1))
    yield topics
    await topics.close()


def wanted(name: str) -> WantedTopics:
    stream = make_stream(name, generation=secrets.token_hex(4))
    return WantedTopics(stream, 1, None, 72, 30)


async def sees(broker: Kafka, user: str, password: str, topic: str) -> bool:
    """Whether the user finds the topic; brokers tell each other of users and rights, which takes a moment."""
    for _ in range(30):
        topics = Topics(settings_of(broker, user, password))
        try:
            await topics.admin.describe(topic)
            return True
        except LogStreamError:
            await asyncio.sleep(0.2)
        finally:
            await topics.close()
    return False


async def test_a_user_reaches_its_own_topics_and_no_others(guarded: Kafka, administrator: Topics) -> None:
    mine, other = wanted("mine"), wanted("other")
    for one in (mine, other):
        await administrator.ensure(one)
    user, password = f"logstream_test_{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    users = KafkaUsers(administrator)
    await users.ensure(user, password, mine.stream)
    assert await sees(guarded, user, password, mine.stream.topic)
    assert await sees(guarded, user, password, mine.stream.dead_letter_topic)
    topics = Topics(settings_of(guarded, user, password))
    try:
        with pytest.raises(LogStreamError):
            await topics.admin.describe(other.stream.topic)
        with pytest.raises(LogStreamError):
            await topics.admin.delete(mine.stream.topic)
    finally:
        await topics.close()
    # Another stream of the data plane, then another password.
    await users.ensure(user, password, other.stream)
    assert await sees(guarded, user, password, other.stream.topic)
    await users.ensure(user, password + "2", mine.stream)
    assert await sees(guarded, user, password + "2", mine.stream.topic)
    await users.drop(user)
    await users.drop(user)
    topics = Topics(settings_of(guarded, user, password + "2"))
    try:
        with pytest.raises(BusUnavailable):
            await topics.admin.describe(mine.stream.topic)
    finally:
        await topics.close()
