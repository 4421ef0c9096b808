"""Users of data planes on the operator's own Kafka: SCRAM credentials, and rights to their own topics and groups.

A password cannot be read back. It is written once in the life of this process, and again when it has changed.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from logstream.bus.kafka.faults import error_of
from logstream.errors import BusUnavailable
from logstream.stream import Stream
from logstream_operator.external.problem import Refused
from logstream_operator.external.topics import Topics
from logstream_operator.metrics import EXTERNAL_CHANGES

_ROUNDS = 4096
_ANY: Any = None
"""In a filter; the library's types do not know of it."""
_TOPIC_RIGHTS = (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)


class KafkaUsers:
    """On one Kafka. Every method raises BusUnavailable, or Refused where the administrator may not do it.

    written: by user, a digest of the password that this process wrote last; shared by all that is made for one Kafka.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._written = topics.users

    async def ensure(self, user: str, password: str, stream: Stream) -> None:
        """The user, with this password, and rights to the topics and groups of `stream` beside those it has."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        if self._written.get(user) != digest:
            upsertion = UserScramCredentialUpsertion(
                user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, _ROUNDS), password.encode()
            )
            await self._ask(f"making user {user}", lambda client: client.alter_user_scram_credentials([upsertion]))
            self._written[user] = digest
            EXTERNAL_CHANGES.labels("kafka_user").inc()
        wanted = _rights(user, stream)
        there = await self._rights_of(user)
        if there is not None and (missing := [right for right in wanted if right not in there]):
            await self._ask(f"giving rights to {user}", lambda client: client.create_acls(missing))
            EXTERNAL_CHANGES.labels("kafka_rights").inc(len(missing))

    async def take_rights(self, user: str, stream: Stream) -> None:
        """Of one stream, which is gone. Idempotent."""
        filters = [
            AclBindingFilter(
                ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, _principal(user), _ANY,
                AclOperation.ANY, AclPermissionType.ANY,
            )
            for topic in (stream.topic, stream.dead_letter_topic)
        ]  # fmt: skip
        await self._ask(f"taking rights from {user}", lambda client: client.delete_acls(filters), unsecured=True)

    async def drop(self, user: str) -> None:
        """The user and its rights. Idempotent."""
        everything = AclBindingFilter(
            ResourceType.ANY, _ANY, ResourcePatternType.ANY, _principal(user), _ANY,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        await self._ask(f"taking rights from {user}", lambda client: client.delete_acls([everything]), unsecured=True)
        deletion = UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512)
        await self._ask(
            f"removing user {user}", lambda client: client.alter_user_scram_credentials([deletion]), missing=True
        )
        self._written.pop(user, None)

    async def _rights_of(self, user: str) -> Sequence[Any] | None:
        """None where the brokers have no authorizer: everybody may do everything there."""
        every = AclBindingFilter(
            ResourceType.ANY, _ANY, ResourcePatternType.ANY, _principal(user), _ANY,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        answers = await self._ask(
            f"asking for the rights of {user}", lambda client: {"all": client.describe_acls(every)}, unsecured=True
        )
        return None if answers is None else list(answers[0])

    async def _ask(self, what: str, question: Any, *, unsecured: bool = False, missing: bool = False) -> Any:
        """unsecured: None instead of an error without an authorizer. missing: the same for what is not there."""
        try:
            return await self._topics.admin.ask(what, question)
        except BusUnavailable as failure:
            cause = error_of(failure.__cause__) if failure.__cause__ else None
            code = None if cause is None else cause.code()
            if (unsecured and code == KafkaError.SECURITY_DISABLED) or (
                missing and code == KafkaError.RESOURCE_NOT_FOUND
            ):
                return None
            if code in (KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.SECURITY_DISABLED):
                raise Refused(
                    "UsersNotManaged",
                    f"{what}: the operator's user may not do that on Kafka: give it ALTER on the cluster, or give "
                    "spec.connections.kafka.secretRef",
                    field="spec.connections.kafka",
                ) from failure
            raise


def _principal(user: str) -> str:
    return f"User:{user}"


def _rights(user: str, stream: Stream) -> list[Any]:
    found = [
        AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, _principal(user), "*", right,
            AclPermissionType.ALLOW,
        )
        for topic in (stream.topic, stream.dead_letter_topic)
        for right in _TOPIC_RIGHTS
    ]  # fmt: skip
    # A group's name begins with the topic's.
    found.append(
        AclBinding(
            ResourceType.GROUP, stream.topic, ResourcePatternType.PREFIXED, _principal(user), "*", AclOperation.READ,
            AclPermissionType.ALLOW,
        )
    )  # fmt: skip
    return found
