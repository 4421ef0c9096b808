"""Why a step outside of Kubernetes did not succeed, in words for a condition."""

from logstream.errors import LogStreamError, NotFound, Unavailable


class Refused(LogStreamError):
    """A step that waiting does not mend: somebody has to change something. reason: of the condition, in CamelCase."""

    code = "refused"

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.reason = reason


def reason_of(error: LogStreamError, backend: str) -> str:
    """A condition's reason. backend: Kafka, ClickHouse, Postgres."""
    if isinstance(error, Refused):
        return error.reason
    text = error.message.lower()
    if "credential" in text or "password" in text or "authentication" in text or "refuses us" in text:
        return f"{backend}CredentialsRefused"
    if isinstance(error, Unavailable):
        return f"{backend}Unavailable"
    if isinstance(error, NotFound):
        return f"{backend}NotFound"
    return f"{backend}Refused"
