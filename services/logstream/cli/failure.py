"""How a command fails: one sentence that says what to do next."""

from collections.abc import Sequence


class Failure(Exception):
    """Ends the command.

    status: 1 failure, 2 wrong usage. detail: lines to show below the sentence, as they are. code, field, limit: of the
    server's error, where one was answered.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 1,
        detail: Sequence[str] = (),
        code: str = "",
        field: str | None = None,
        limit: object = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.detail = tuple(detail)
        self.code = code
        self.field = field
        self.limit = limit
