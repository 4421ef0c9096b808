"""The identity of a stream and the names made from it."""

import hashlib
import re
from dataclasses import dataclass

from logstream.errors import InvalidValue

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,48}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its own topic, dead-letter topic, ClickHouse database, keys and retention.

    `stream_id` never changes and never returns, even when a stream is deleted and made again under the
    same name; topic, database and tokens are named after it.
    """

    name: str
    stream_id: str

    @property
    def topic(self) -> str:
        return f"logstream.{self.stream_id}"

    @property
    def dead_letter_topic(self) -> str:
        return f"logstream.{self.stream_id}.deadletters"

    @property
    def database(self) -> str:
        """Safe as a ClickHouse identifier: letters, digits and underscores only."""
        return "logstream_" + self.stream_id.replace("-", "_")

    def beside(self) -> "Stream":
        """Where days of it are built anew before they take their place: a database of its own, removed after that."""
        return Stream(self.name, f"{self.stream_id}-replay")


def make_stream(name: str, *, namespace: str = "local", generation: str = "1") -> Stream:
    """The stream called `name` in `namespace`.

    `generation` tells one life of a name from the next (a UID in Kubernetes). The id is name and namespace,
    for people, plus the first eight hex digits of the SHA-256 of all three, for uniqueness.

    Raises InvalidValue when a name is not 1–50 characters of a–z, 0–9 and "-", beginning with a letter.
    """
    for field, value in (("name", name), ("namespace", namespace)):
        if not _NAME.fullmatch(value):
            raise InvalidValue(
                f"{field} must be 1 to 50 characters of a-z, 0-9 and '-', begin with a letter "
                f"and not end with '-': {value!r}",
                field=field,
            )
    digest = hashlib.sha256(f"{namespace}/{name}/{generation}".encode()).hexdigest()[:8]
    return Stream(name=name, stream_id=f"{namespace}-{name}-{digest}")
