"""What the API server answers, as errors."""

from logstream.errors import LogStreamError, Unavailable


class ClusterAway(Unavailable):
    """The API server cannot be reached, is starting, or asks us to come later."""

    code = "cluster_unavailable"


class ClusterRefused(LogStreamError):
    """The API server answered with an error. answered: the HTTP status; reason: Kubernetes' own word for it."""

    code = "cluster_refused"

    def __init__(self, message: str, *, answered: int, reason: str = "", field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.answered = answered
        self.reason = reason


class Missing(ClusterRefused):
    """There is no such object, or no such kind of object."""


class Outdated(ClusterRefused):
    """It exists already, or is not as it was when it was read, or another field manager has it."""


class Denied(ClusterRefused):
    """The ServiceAccount may not do this."""
